"""Alembic migrations: additive, and the same for both engines."""
