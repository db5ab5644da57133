"""Decoding of feeds into Arrow columns, block by block."""
