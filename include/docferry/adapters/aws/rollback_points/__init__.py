"""Rollback points: DynamoDB backups, and files in S3."""
