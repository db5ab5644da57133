"""Adapter of port `containers` on Docker's engine."""
