"""What the tests of mongodb share."""
