"""`python -m tidemill.demo`: the demo where no `tidemill` program is on the path."""

import sys

from tidemill.demo.command import demo
from tidemill.model.errors import TidemillError

try:
    demo(prog_name="tidemill demo")
except TidemillError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
