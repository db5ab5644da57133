"""SQL and columnar merges by DuckDB."""
