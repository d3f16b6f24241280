"""What people ask: how far is it, and is all well? Reads only."""
