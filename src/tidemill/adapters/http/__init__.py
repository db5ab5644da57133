"""Adapters of ports on the standard library's client of web servers."""
