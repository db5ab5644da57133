"""How long a user waits for nothing: `tidemill --help` and `import tidemill`, each in fresh processes.

    ./run bench startup [--repeat 20]

Shows the fastest, the median and the slowest of so many starts, beside an empty Python start on the same machine,
which is part of each. The files are in the page cache after a first start that is not counted. The exit code is 1
where a median is over its limit, or a command does not run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import measure
from figures import keep, verdict

BIN = Path(sys.executable).parent

#: What is started -> the command, and the most milliseconds that its median may take (None: shown to compare).
STARTS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "import tidemill": ([sys.executable, "-c", "import tidemill"], 120),
    "tidemill --help": ([str(BIN / "tidemill"), "--help"], 150),
}


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench startup", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=20, help="starts of each")
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    print(f"{'start of':<17} {'fastest':>8} {'median':>8} {'slowest':>8} {'peak MB':>8}   milliseconds")
    figures: dict[str, dict[str, float]] = {}
    code = 0
    for name, (command, most) in STARTS.items():
        runs = [measure.run(command, limit=60) for _ in range(options.repeat + 1)][1:]
        broken = next((run for run in runs if run.code), None)
        if broken:
            print(f"{name:<17} FAILED: {(broken.errors.strip().splitlines() or ['no message'])[-1]}")
            code = 1
            continue
        times = sorted(run.seconds * 1000 for run in runs)
        median = statistics.median(times)
        says = verdict(median, most)
        code = 1 if says.startswith("OVER") else code
        peak = max(run.peak_mb for run in runs)
        print(f"{name:<17} {times[0]:>8.1f} {median:>8.1f} {times[-1]:>8.1f} {peak:>8.1f}   {says}")
        figures[name] = {"fastest": times[0], "median": median, "slowest": times[-1], "peak_mb": peak}
    keep("startup", about, figures)
    return code


if __name__ == "__main__":
    sys.exit(main())
