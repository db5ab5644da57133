"""Doing: the only loops. They call ports and obey plans."""
