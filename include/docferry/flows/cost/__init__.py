"""What a migration costs, and what it has cost: documents are measured, calls are counted, and the two are compared."""
