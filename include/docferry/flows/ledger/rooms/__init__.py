"""Records that one room alone keeps. Those that several rooms share are one folder up."""
