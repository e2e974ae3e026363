"""Backups: list, make, verify."""
