"""What Tidemill asks of the outside: one small Protocol a file, its promises in its docstring."""
