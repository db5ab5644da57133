"""Change data capture under fire: its reader gets SIGKILL and the server crashes at random while pgbench writes.

    ./run bench cdc [--seconds 600] [--seed 1]

Exactly once: what the tables here hold in the end must be what pgbench's tables hold, by `EXCEPT ALL` both ways, the
log of its history too, and one slot is left. The exit code is 1 where that is not so. `tests/faults/test_cdc_kills.py`
plays the same for some seconds.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import measure
from figures import keep

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from harness.changefire import Outcome, play
from harness.postgres import running


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench cdc", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    with running() as server, tempfile.TemporaryDirectory(prefix="tidemill-cdc-") as folder:
        outcome = play(server, Path(folder) / "project", options.seed, options.seconds)
    show(outcome)
    keep("cdc", about, {**asdict(outcome), "is_whole": outcome.is_whole})
    return 0 if outcome.is_whole and outcome.kills + outcome.crashes else 1


def show(outcome: Outcome) -> None:
    """The table, a line for each of pgbench's, and what died."""
    print(f"{'table':18}{'rows there':>12}{'missing here':>14}{'too many here':>15}")
    for table, rows in outcome.rows.items():
        print(f"{table:18}{rows:>12,}{outcome.missing[table]:>14,}{outcome.extra[table]:>15,}")
    print(
        f"{outcome.seconds:g} s, seed {outcome.seed}: {outcome.changes:,} changes in {outcome.batches} batches; "
        f"{outcome.kills} readers killed, {outcome.crashes} crashes of the server, {outcome.errors} runs ended by an "
        f"error; {outcome.ahead} times the slot was ahead of what is published; slots left: {len(outcome.slots)}"
    )


if __name__ == "__main__":
    sys.exit(main())
