"""Frames by Polars."""
