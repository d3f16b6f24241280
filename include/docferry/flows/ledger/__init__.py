"""What must survive: every record of the ledger, who writes it and who reads it."""
