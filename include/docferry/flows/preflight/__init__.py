"""What must hold before a flow begins, asked of the servers."""
