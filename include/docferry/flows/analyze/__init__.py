"""Phase 1: read a MongoDB that was never seen before, within a budget, and say what to build in DynamoDB and its price."""
