"""Virtual environments of Python packages."""
