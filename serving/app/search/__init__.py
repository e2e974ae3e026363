"""Passages for a question, without an answer."""
