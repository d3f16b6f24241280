"""Changing who serves: dual writes, flips, the change of leader, the way back, the end."""
