"""Commands that come before anything is made: analyze, cost, iam, privileges."""
