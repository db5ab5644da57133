"""Sources, part by part: how fast input of each kind reaches the lake, beside peers that do the same.

    ./run bench sources [PART ...] [--repeat 3] [--rows 1000000] [--peers tidemill,dlt,target]

Each measurement is a fresh process, start of Python and imports included; what was loaded is compared with what the
source holds. The exit code is 1 where a figure misses its limit or a result is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import measure
from figures import keep

#: Part -> the module beside this one with `run(options) -> (figures, problems)`.
PARTS = {"sql": "sources_sql", "rest": "sources_rest", "singer": "sources_singer", "cdc": "sources_cdc"}


def main() -> int:
    """Run the parts; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench sources", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; none named: all")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each; the median is shown")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows, or records")
    parser.add_argument("--peers", default="tidemill,dlt,target", help="names with commas between")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    code = 0
    for part in options.parts or PARTS:
        figures, problems = importlib.import_module(PARTS[part]).run(options)
        keep(f"sources-{part}", about, figures)
        for problem in problems:
            print(f"FAILED: {part}: {problem}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
