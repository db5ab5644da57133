"""Exactly once under fire: a stream's processes and brokers die at random, and every result is there once.

TIDEMILL_FIRE_SECONDS makes long sessions; TIDEMILL_FIRE_SEED repeats the choices of an earlier one.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness import kafka, services
from harness.programs import CannotStart
from harness.streamfire import Fire

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("TIDEMILL_FIRE_SECONDS", "60"))
SEED = int(os.environ.get("TIDEMILL_FIRE_SEED", random.randrange(1 << 32)))
#: Seconds after the last message in which all results must be there.
PATIENCE = 120


def test_each_result_is_there_once_whatever_dies(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Output topics and the lake's table hold the windows that plain SQL computes over the acknowledged input."""
    try:
        cluster = kafka.running(brokers=3)
        brokers = cluster.__enter__()
    except CannotStart as error:
        services.missing("Kafka", str(error))
        return
    services.note_used(request, "Kafka (3 brokers)", kafka.VERSION)
    try:
        fire = Fire(brokers, tmp_path / "project", random.Random(SEED))
        fire.prepare()
        stopping = threading.Event()
        producer = threading.Thread(target=fire.produce, args=(stopping,))
        fire.start()
        fire.start()
        try:
            producer.start()
            fire.harass(SECONDS)
            stopping.set()
            producer.join()
            assert fire.refused == 0
            keys, teams = fire.expected("key"), fire.expected("team")
            found = _until(fire, keys, teams)
        finally:
            stopping.set()
            fire.end()
    finally:
        cluster.__exit__(None, None, None)
    for name, wanted in (("keys", keys), ("teams", teams), ("table", keys)):
        lost, doubled = wanted - found[name], found[name] - wanted
        assert (len(lost), len(doubled)) == (0, 0), (name, SEED, lost.most_common(3), doubled.most_common(3))
    services.tell(
        request,
        f"stream under fire: {SECONDS:g} s, {len(fire.sent)} messages, kills {dict(fire.kills)}, "
        f"{sum(keys.values()) + sum(teams.values())} windows, 0 lost, 0 doubled, seed {SEED}",
    )


def _until(fire: Fire, keys: Counter[Any], teams: Counter[Any]) -> dict[str, Counter[Any]]:
    """What is there once everything is there, or when patience ends."""
    until = time.monotonic() + PATIENCE
    while True:
        found = {"keys": fire.topic("keys", "key"), "teams": fire.topic("teams", "team"), "table": Counter()}
        complete = found["keys"] >= keys and found["teams"] >= teams
        if complete or time.monotonic() > until:
            while time.monotonic() < until:
                found["table"] = fire.table()
                if found["table"] >= keys:
                    break
                time.sleep(1)
            return found
