"""Adapter of port `sqlclient`: databases whose drivers speak Python's DB-API: SQLite, DuckDB, PostgreSQL."""
