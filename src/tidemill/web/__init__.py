"""The web API, and what serves it: everything that a page or a program asks of a project."""
