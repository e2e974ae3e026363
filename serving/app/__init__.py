"""The HTTP API: a folder for each group of endpoints (protocol: the bodies; router: the routes)."""
