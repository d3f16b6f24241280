"""How fast, and with how much memory. `make bench` runs everything; each module says what it compares."""
