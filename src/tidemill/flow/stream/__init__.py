"""Streams at work: the loop that reads topics, feeds tasks, and commits what follows as checkpoints."""
