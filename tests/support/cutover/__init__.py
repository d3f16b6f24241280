"""What tests of the fence share."""
