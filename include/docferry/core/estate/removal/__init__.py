"""How what a file has made is removed again: of scratch stacks alone."""
