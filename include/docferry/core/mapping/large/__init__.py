"""Items over 400 KB: compressed, and what is still too large in parts."""
