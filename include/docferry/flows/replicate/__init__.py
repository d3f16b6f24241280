"""Forward replication: DynamoDB follows MongoDB's change stream."""
