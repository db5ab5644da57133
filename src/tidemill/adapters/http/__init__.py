"""Adapter of port `http` on the standard library."""
