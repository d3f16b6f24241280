"""One document and its items: keys, shapes, versions of items, and the fast way from BSON to DynamoDB JSON. Pure."""
