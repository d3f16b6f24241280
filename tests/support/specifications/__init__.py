"""MongoDB's own specification tests, run through any client."""
