"""Virtual time, and a world in which real processes write, stall, and are struck off."""
