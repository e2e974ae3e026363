"""For programs that keep their own chain and use our index: retrievers over the HTTP API."""
