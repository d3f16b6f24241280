"""BSON values and DynamoDB values: each BSON type has one encoding and comes back as itself. Pure."""
