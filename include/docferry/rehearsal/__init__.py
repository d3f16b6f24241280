"""The rehearsal of the night: a drill on a throw-away stack, and an independent judge."""
