"""Laws of the pure core, tried with values that nobody would think of."""
