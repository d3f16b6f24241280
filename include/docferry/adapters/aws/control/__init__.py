"""The control plane beside tables and DAX: whose the account is, and calls that are given as values."""
