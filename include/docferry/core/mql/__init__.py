"""MongoDB's query language over documents in hand: filters, updates, projections. Pure."""
