"""Revisions of destinations, by Alembic."""
