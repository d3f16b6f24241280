"""This machine: files and processes."""
