"""From BSON to DynamoDB JSON without a Python object in between, for documents of learnt shapes."""
