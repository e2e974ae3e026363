"""The `kb` command: a file for each group of commands."""

from serving.cli.application import main

__all__ = ["main"]
