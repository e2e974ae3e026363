"""From chunks to hits: terms, embedders, indexes, fusion and search."""
