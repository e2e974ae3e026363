"""What was found and answered before, kept as long as it is still true. Decision 0017."""
