"""Collections: list, make, delete."""
