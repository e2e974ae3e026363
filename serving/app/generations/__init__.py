"""Index generations: list, prune, build anew, go back."""
