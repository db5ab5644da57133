"""The property of streams, for some of the verbs at a time: shared by the files that test it, so that they run beside
each other.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from harness.comparing_streams import KINDS, Case, check, pairs_of, prune
from harness.programs_of_streams import grow, grow_pairs
from harness.stream_input import Data, read_data
from harness.stream_kinds import AFTER_CHANGES, CHANGING, VERBS

#: Whether to play long enough for every pair of verbs to appear often: some minutes on each of two cores.
FULL = os.environ.get("TIDEMILL_PROPERTY") == "full"
#: Trees that begin with each verb. A pair appears about three times in three: as first, second and third verb.
TREES = 130 if FULL else 2
#: How often each pair of verbs has to appear; less of it is played otherwise, and told.
OFTEN = 50 if FULL else 0

#: Where parts that are played one by one keep what they counted, for whoever adds it up: a folder of files.
KEPT = Path(folder) if (folder := os.environ.get("TIDEMILL_PROPERTY_COUNTS")) else None

#: The verbs that begin programs, in two halves, so that two processes share them.
FIRST = tuple(v for v in VERBS if v not in CHANGING)
HALVES = (FIRST[::2], FIRST[1::2])

SEEDS = st.integers(0, 2**32 - 1)
#: Bytes that rows are made of, five for each. Of a seed: what Hypothesis makes itself is mostly empty or of one byte.
ROWS = st.builds(lambda seed, rows: random.Random(seed).randbytes(5 * rows), SEEDS, st.integers(0, 24))

quickly = settings(
    max_examples=TREES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


#: How keys are written: mostly as text that values have, too.
_KEY_CODECS = (None, None, None, "text", "json", "avro")


def _read(rng: random.Random, f: bytes, g: bytes, lateness: int, beyond: int = 0) -> tuple[Data, Data]:
    """The two topics of a case, in as many partitions, each with keys of its own codec."""
    parts, keyed = rng.choice((1, 1, 2, 3)), rng.random() < 0.5

    def read(name: str, rows: bytes, first: int) -> Data:
        codec = rng.choice(_KEY_CODECS)
        return read_data(name, rows, parts, keyed=keyed, lateness=lateness, beyond=beyond, first=first, key_codec=codec)

    return read("f", f, 0), read("g", g, 1000)


def play_pairs(verb: str, pool: Sequence[str], seed: int, f: bytes, g: bytes, found: Counter[tuple[str, str]]) -> None:
    """Play a tree of programs that begin with a verb, and note its pairs."""
    rng = random.Random(seed)
    data = _read(rng, f, g, rng.choice((0, 0, 3)))
    tree = grow_pairs(rng, KINDS, verb, pool)
    if tree is None:
        return
    case = prune(Case(data, [tree], seed))
    check(case)
    found += pairs_of(case.paths())


@contextmanager
def counted(verb: str, found: Counter[tuple[str, str]]) -> Iterator[Counter[tuple[str, str]]]:
    """A counter for the programs that begin with a verb: added to what was found once they have all been right."""
    own: Counter[tuple[str, str]] = Counter()
    yield own
    found += own
    if KEPT is not None:
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{verb}.json").write_text(json.dumps([[*pair, count] for pair, count in own.items()]))


def add_kept(verbs: Sequence[str], found: Counter[tuple[str, str]]) -> None:
    """What parts in other processes counted takes the place of what this one did, where it is kept."""
    if KEPT is None:
        return
    found.clear()
    for verb in verbs:
        for before, after, count in json.loads((KEPT / f"{verb}.json").read_text()):
            found[before, after] += count


#: What does not make times of its own, or wait for a number of rows: what late rows are tried with.
_NOT_LATE = (
    "count_window", "group_by", "reduce", "unique", "unique_last", "window_current", "join_table", "with_columns",
    "filter_rows", "map_rows", "flat_map", "map_batches", "sql",
)  # fmt: skip


def play_late(seed: int, f: bytes, g: bytes) -> int:
    """Play programs over rows of which some are late. Gives how many."""
    rng = random.Random(seed)
    data = _read(rng, f, g, rng.choice((0, 2)), beyond=4)
    tree = grow(rng, KINDS, rng.choice([v for v in VERBS if v not in _NOT_LATE]), width=5, avoid=_NOT_LATE)
    if tree is None:
        return 0
    return check(prune(Case(data, [tree], seed, late=True)))


def rare(found: Counter[tuple[str, str]], first: Sequence[str]) -> dict[tuple[str, str], int]:
    """Pairs that were seen too rarely. The programs have one struct, so nothing is unnested twice."""
    return {
        pair: found[pair]
        for before in first
        for after in (AFTER_CHANGES if before in CHANGING else VERBS)
        if (before, after) != ("unnest", "unnest") and found[pair := (before, after)] < OFTEN
    }
