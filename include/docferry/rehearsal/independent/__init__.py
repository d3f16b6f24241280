"""A second opinion: what DynamoDB should hold, worked out without one line of docferry."""
