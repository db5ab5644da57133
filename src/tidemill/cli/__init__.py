"""The command line: thin commands over wiring and flow."""
