"""MongoDB Atlas's own administration, by HTTP."""
