"""What publishes metrics in AWS: CloudWatch."""
