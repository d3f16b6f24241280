"""Servers that stand for AWS in tests of the transports."""
