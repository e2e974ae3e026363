"""Embeddings of any texts."""
