"""The journal as the application writes it: its lanes, and a write with its entry."""
