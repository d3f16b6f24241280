"""MongoDB's query and update language, ours against the real one."""
