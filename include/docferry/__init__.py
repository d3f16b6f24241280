"""docferry: carries a live application from MongoDB to DynamoDB, and back if need be. Never imports Airflow."""
