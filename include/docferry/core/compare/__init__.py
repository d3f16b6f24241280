"""What differs between what is stored and what should be, and what a report may show of it. Pure."""
