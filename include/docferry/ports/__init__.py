"""What flows and client ask of the outside world."""
