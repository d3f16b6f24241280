"""What goes to DynamoDB's data plane and comes from it: items being put, and items in parts."""
