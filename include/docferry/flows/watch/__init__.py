"""The database that led before is watched: what reaches it behind the change of leader is a stray write, and never silent."""
