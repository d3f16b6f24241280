"""What the test suites share. No tests here."""
