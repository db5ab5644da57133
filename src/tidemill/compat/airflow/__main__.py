"""Runs one file with Airflow's names served, for its `if __name__ == "__main__": dag.test()`.

python -m tidemill.compat.airflow dags/nightly.py
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from tidemill.compat.airflow.finder import serving
from tidemill.model.errors import TidemillError


def main(arguments: list[str]) -> int:
    """Run a file; returns the exit code."""
    if not arguments or not Path(arguments[0]).is_file():
        print("python -m tidemill.compat.airflow FILE", file=sys.stderr)
        return 2
    sys.argv = arguments
    sys.path[:0] = [str(Path(arguments[0]).resolve().parent), str(Path.cwd())]
    try:
        with serving():
            runpy.run_path(str(Path(arguments[0]).resolve()), run_name="__main__")
    except TidemillError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
