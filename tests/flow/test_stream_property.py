"""For every program, any cut, any restart, any order in which tasks hear of each other: the rows of the table run,
which are those of a naive implementation. Here programs that begin with the first half of the verbs.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings

from harness.examples import few
from harness.services import tell
from harness.stream_kinds import CHANGING
from harness.stream_property import HALVES, OFTEN, ROWS, SEEDS, add_kept, counted, play_late, play_pairs, quickly, rare

_VERBS = (*HALVES[0], *CHANGING)
_FOUND: Counter[tuple[str, str]] = Counter()


@pytest.mark.parametrize("verb", _VERBS)
def test_programs_give_the_same_rows_as_a_stream_as_a_table_and_naively(verb: str) -> None:
    with counted(verb, _FOUND) as found:

        @quickly
        @given(SEEDS, ROWS, ROWS)
        def play(seed: int, f: bytes, g: bytes) -> None:
            play_pairs(verb, HALVES[0], seed, f, g, found)

        play()


def test_every_pair_of_verbs_appeared_often(request: pytest.FixtureRequest) -> None:
    add_kept(_VERBS, _FOUND)
    pairs = [count for (before, _), count in _FOUND.items() if before in _VERBS]
    tell(request, f"pairs of verbs in programs on streams: {len(pairs)}, each at least {min(pairs)} times")
    assert not rare(_FOUND, _VERBS), f"below {OFTEN}: {rare(_FOUND, _VERBS)}"


_LATE: list[int] = []


@settings(quickly, max_examples=few(60))
@given(SEEDS, ROWS, ROWS)
def test_a_row_is_late_by_its_own_stamp_however_the_input_is_cut(seed: int, f: bytes, g: bytes) -> None:
    """Late rows come out aside exactly once, and the others make what a table of them would."""
    _LATE.append(play_late(seed, f, g))


def test_rows_were_late(request: pytest.FixtureRequest) -> None:
    tell(request, f"late rows in {len(_LATE)} trees of programs: {sum(_LATE)}")
    assert sum(_LATE) > 3
