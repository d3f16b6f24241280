"""The rules of changing who leads: modes, instances, the fence, and the proof behind a purge. Pure."""
