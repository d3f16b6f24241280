"""The repository's own text: its pages, its source, and what they name."""
