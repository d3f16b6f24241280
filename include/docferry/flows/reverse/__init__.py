"""Reverse replication: while DynamoDB leads, MongoDB follows its streams."""
