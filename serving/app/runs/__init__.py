"""Runs: list, look at, cancel."""
