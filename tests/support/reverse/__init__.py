"""Applications that write to DynamoDB, and MongoDB that follows, for tests of the way back."""
