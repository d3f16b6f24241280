"""Shops that are loaded, written to and followed, for tests of replication."""
