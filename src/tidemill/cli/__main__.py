"""`python -m tidemill.cli`: the command line where no `tidemill` program is on the path."""

from tidemill.cli.main import main

main()
