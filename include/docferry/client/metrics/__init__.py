"""What the client tells of its calls: to the ledger, to OpenTelemetry, to CloudWatch."""
