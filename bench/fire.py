"""A stream under fire: its processes and three Kafka brokers get SIGKILL at random while messages come.

    ./run bench fire [--seconds 600] [--seed 1]

Exactly once: the output topics (read committed) and the lake's table must hold each window once, compared with windows
that DuckDB computes over the input topic. The exit code is 1 where that is not so. `tests/faults/test_stream_fire.py`
plays the same for a minute.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import measure
from figures import keep

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from harness.kafka import running
from harness.streamfire import play


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench fire", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    with running(brokers=3) as kafka, tempfile.TemporaryDirectory(prefix="tidemill-fire-") as folder:
        outcome = play(kafka, Path(folder) / "project", options.seed, options.seconds)
    lost, doubled = (sum(some.total() for some in wrong.values()) for wrong in (outcome.lost, outcome.doubled))
    print(f"{options.seconds:g} s, seed {options.seed}: {outcome}\n{outcome.wrong()}".strip())
    figures = {
        "seconds": options.seconds, "seed": options.seed, "messages": outcome.messages, "windows": outcome.windows,
        "kills": outcome.kills, "lost": lost, "doubled": doubled,
    }  # fmt: skip
    keep("fire", about, figures)
    return 1 if lost or doubled or not outcome.windows or outcome.messages < outcome.acknowledged else 0


if __name__ == "__main__":
    sys.exit(main())
