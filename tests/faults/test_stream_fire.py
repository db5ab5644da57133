"""Exactly once under fire: a stream's processes and brokers die at random, and every result is there once.

TIDEMILL_FIRE_SECONDS makes long sessions; TIDEMILL_FIRE_SEED repeats the choices of an earlier one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from harness import kafka, services
from harness.programs import CannotStart
from harness.streamfire import play

SECONDS = float(os.environ.get("TIDEMILL_FIRE_SECONDS", "60"))
SEED = int(os.environ.get("TIDEMILL_FIRE_SEED", random.randrange(1 << 32)))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 600)]


def test_each_result_is_there_once_whatever_dies(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Output topics and the lake's table hold the windows that plain SQL computes over the input."""
    try:
        cluster = kafka.running(brokers=3)
        brokers = cluster.__enter__()
    except CannotStart as error:
        services.missing("Kafka", str(error))
        return
    services.note_used(request, "Kafka (3 brokers)", kafka.VERSION)
    try:
        outcome = play(brokers, tmp_path / "project", SEED, SECONDS)
    finally:
        cluster.__exit__(None, None, None)
    assert outcome.messages >= max(outcome.acknowledged, 500 * SECONDS), outcome
    if wrong := outcome.wrong():
        pytest.fail(f"seed {SEED}: {outcome}\n{wrong}", pytrace=False)
    services.tell(request, f"stream under fire: {SECONDS:g} s, {outcome}, seed {SEED}")
