"""One operator a flow: connections in, one call, a small summary out."""
