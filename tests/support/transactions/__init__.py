"""Transactions: cases for each client, a bank, and a DynamoDB in memory."""
