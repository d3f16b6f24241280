"""What each who acts must be allowed, and no more: policies of AWS IAM and roles of MongoDB, made from a migration file. Pure."""
