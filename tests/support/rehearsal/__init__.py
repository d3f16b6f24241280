"""What the tests of rehearsal share."""
