"""What mends, and what looks: for where there is no shell. One flow of the library each, the same as that of the command."""
