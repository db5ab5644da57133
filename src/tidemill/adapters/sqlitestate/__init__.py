"""SQLite files as state of streams: what comes with Python, so that a first stream needs nothing else."""
