"""Adapters of ports on Trino, through its own client."""
