"""Files in a local folder."""
