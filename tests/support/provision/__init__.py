"""What the tests of provision share."""
