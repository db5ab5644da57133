"""One file a revision, in order of their numbers. A released one is never changed."""
