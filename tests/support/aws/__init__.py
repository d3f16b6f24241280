"""What the tests of aws share."""
