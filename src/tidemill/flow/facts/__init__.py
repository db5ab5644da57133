"""What is told of a project's things, as plain values: commands with `--json` and the web API say the same."""
