"""Support for tests of tables that somebody else has designed."""
