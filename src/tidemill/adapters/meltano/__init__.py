"""Meltano's project files."""
