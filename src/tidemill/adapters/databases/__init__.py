"""Adapter of port `source`: databases. One file for each that is read in a way of its own."""
