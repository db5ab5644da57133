"""What a process tells of a stream comes back as it was told, and says what the stream is doing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tidemill.flow.stream.facts import NodeFacts, ProcessFacts, counts_json, event_time
from tidemill.wiring.stream_care import state_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOLD = ProcessFacts(
    "cars.means", "host-0", "host", 17, NOW, NOW, tasks=("1.0", "1.1"), messages=5, rate=2.5,
    nodes={0: NodeFacts(5, 2.5), 2: NodeFacts(watermark=NOW)}, state_bytes=100,
)  # fmt: skip


@pytest.mark.parametrize(
    "facts",
    [
        TOLD,
        replace(TOLD, state="recovering", recovering=(3, 7)),
        replace(TOLD, state="failed", error="x", error_at=NOW),
    ],
)
def test_facts_go_to_the_database_and_come_back(facts: ProcessFacts) -> None:
    assert ProcessFacts.from_json(json.loads(json.dumps(facts.as_json()))) == facts


def test_what_a_newer_version_tells_besides_is_left_out() -> None:
    assert ProcessFacts.from_json({**TOLD.as_json(), "mood": "good"}) == TOLD


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([], "stopped"),
        ([TOLD], "running"),
        ([TOLD, replace(TOLD, state="recovering")], "recovering"),
        ([TOLD, replace(TOLD, state="failed")], "running"),
        ([replace(TOLD, state="failed", at=NOW - timedelta(hours=1))], "failed"),
        ([replace(TOLD, at=NOW - timedelta(hours=1))], "gone"),
    ],
)
def test_a_streams_state_is_that_of_those_who_are_heard_of(told: list[ProcessFacts], state: str) -> None:
    assert state_of(told, NOW) == state


def test_processes_count_together() -> None:
    together = counts_json([TOLD, TOLD])
    assert (together["messages"], together["rate"], together["state_bytes"]) == (10, 5.0, 200)


def test_rows_may_claim_times_that_no_calendar_has() -> None:
    assert event_time(2**62) is None
    assert event_time(0) == datetime(1970, 1, 1, tzinfo=UTC)
