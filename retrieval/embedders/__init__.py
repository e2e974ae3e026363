"""Implementations of the `Embedder` port."""
