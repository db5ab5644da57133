"""The command line: a lazily loaded table of commands over `wiring` and `flow`. Importing this costs nothing."""
