"""What the tests of validation and repair share: documents made to be tampered with, and the tampering."""
