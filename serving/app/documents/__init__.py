"""Documents: upload, list, look at, delete."""
