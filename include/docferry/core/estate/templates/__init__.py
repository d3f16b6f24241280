"""The same estate as another tool's template: CloudFormation's, Terraform's. Pure."""
