"""Processes of docferry to be killed: made by the dozen, and each a real one."""
