"""Prometheus: metrics as text, and the server that is asked for them."""
