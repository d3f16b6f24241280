"""Guards while DynamoDB leads: mended from the documents that DynamoDB itself holds."""
