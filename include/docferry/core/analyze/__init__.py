"""What a MongoDB database is like, and what it should become in DynamoDB. Pure: nothing is read here."""
