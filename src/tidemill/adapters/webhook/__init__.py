"""Calls from outside that begin runs."""
