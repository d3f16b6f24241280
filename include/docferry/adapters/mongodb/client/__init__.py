"""MongoDB as an application uses it."""
