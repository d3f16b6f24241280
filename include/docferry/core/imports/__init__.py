"""The load by way of S3: DynamoDB makes a new table of objects (ImportTable). Rows, reports of errors, the price."""
