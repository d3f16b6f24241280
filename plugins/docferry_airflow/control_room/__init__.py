"""The page on which the night is run: the files of the page, and what it asks the API server."""
