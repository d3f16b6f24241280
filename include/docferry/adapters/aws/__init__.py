"""The only code that calls AWS."""
