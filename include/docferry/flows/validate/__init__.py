"""Are the two databases equal? Both directions, while both are written. And repair."""
