"""Rollback points and the files of a dump. Pure."""
