"""The kernel of Linux tells which folders change."""
