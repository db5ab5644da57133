"""One folder a technology, one file for each port that it offers. Adapters do not know each other."""
