"""The kinds of resources beside tables and DAX: one module a kind, or a family of them. See `resources.py` for what a kind is."""
