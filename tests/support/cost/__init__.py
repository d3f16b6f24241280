"""What tests of cost share."""
