"""In-memory adapters: the same paths as the real ones, nothing kept after the process."""
