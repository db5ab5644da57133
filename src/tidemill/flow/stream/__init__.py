"""Streams: the loop that feeds messages through a topology, what it remembers, and how it comes back."""
