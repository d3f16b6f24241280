"""What DynamoDB costs: units of one request, a month, the migration itself, and the comparison with MongoDB. Pure."""
