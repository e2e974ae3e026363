"""The catalogue: SQLAlchemy models, sessions and the `Catalog` adapter."""
