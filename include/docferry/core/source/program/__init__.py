"""A program, read without running it: its syntax, what its names may be, and the driver calls in it."""
