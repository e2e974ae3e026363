"""Golden questions: ask them."""
