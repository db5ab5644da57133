"""The program `git`."""
