"""Where a write goes in each mode, and how it gets there."""
