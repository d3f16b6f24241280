"""The only code that calls MongoDB and its tools."""
