"""Simulates the scheduler for many seeds: more histories than the test suite has time for.

    ./run bench simulate [--seeds 100000] [--from 0]

Each seed is one history of crashes, lost and doubled words, slow workers, wrong clocks and a store that goes and
comes (tests/harness/simulation.py). Prints the first seeds that break an invariant, and what has happened. The exit
code is 1 where one does; `TIDEMILL_SIMULATION_SEED=<seed> ./run test tests/simulation` replays it.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path

import measure

#: Seeds that a process takes at a time.
_PIECE = 500


def histories(seeds: range) -> tuple[list[str], Counter[str], Counter[str]]:
    """Run some histories: what broke, faults and transitions counted."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    world_of = importlib.import_module("harness.simulation").World

    broken: list[str] = []
    faults: Counter[str] = Counter()
    steps: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        world = world_of(seed)
        world.watch = steps
        try:
            world.run()
        except Exception as error:
            broken.append(f"seed {seed}: {type(error).__name__}: {error}")
        faults += world.coverage
    return broken, faults, Counter({f"{a} -> {b}": n for (a, b), n in steps.items()})


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench simulate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100_000, help="how many histories")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    began = time.perf_counter()
    last = options.first + options.seeds
    pieces = [range(at, min(at + _PIECE, last)) for at in range(options.first, last, _PIECE)]
    broken: list[str] = []
    faults: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool() as pool:
        for more, seen, made in pool.imap(histories, pieces):
            broken += more
            faults += seen
            steps += made
    seconds = time.perf_counter() - began
    print(f"{options.seeds:,} histories in {seconds:.0f} s, {len(broken)} broken")
    print("happened: " + ", ".join(f"{name} {n:,}" for name, n in faults.most_common()))
    print("transitions: " + ", ".join(f"{name} {n:,}" for name, n in sorted(steps.items())))
    print("\n".join(broken[:20]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
