"""Health of the parts, and whether index and catalogue agree."""
