"""Rollback points: made, verified, restored beside the live data or over it."""
