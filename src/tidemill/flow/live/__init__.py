"""Feeding topics from elsewhere: `feeding.py` is the loop, `tables.py` and `archive.py` sources of our own."""
