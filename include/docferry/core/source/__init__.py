"""What an application's source asks of MongoDB: its driver calls, found without running a line of it."""
