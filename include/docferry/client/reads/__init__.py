"""Where a read goes in each mode, and how it gets there."""
