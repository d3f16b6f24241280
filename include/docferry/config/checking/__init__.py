"""What a migration file may not say, beyond its shape: each module finds all problems of its part."""
