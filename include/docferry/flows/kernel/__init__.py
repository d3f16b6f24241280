"""What every flow stands on: threads beside the event loop, and trying again."""
