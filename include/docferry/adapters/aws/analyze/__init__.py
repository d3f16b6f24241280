"""What the analysis asks of AWS: scratch tables."""
