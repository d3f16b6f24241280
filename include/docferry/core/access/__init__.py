"""How a query is answered from DynamoDB: by key, by index, by named pattern, in pages. Pure."""
