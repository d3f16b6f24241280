"""The load: every document read once at a named snapshot, written, superseded or dead-lettered."""
