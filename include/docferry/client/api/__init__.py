"""What the application calls: pymongo's collections and cursors, and the file's access patterns."""
