"""Changes are followed while both sides die: kill -9 of the reader at random moments, crashes of the server.

TIDEMILL_CDC_SECONDS makes long sessions; TIDEMILL_CDC_SEED repeats the choices of an earlier one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from harness import services
from harness.changefire import play
from harness.postgres import CannotStart, running

SECONDS = float(os.environ.get("TIDEMILL_CDC_SECONDS", "20"))
SEED = int(os.environ.get("TIDEMILL_CDC_SEED", random.randrange(1 << 32)))


@pytest.mark.postgres
@pytest.mark.timeout(SECONDS + 1200)
def test_what_is_here_is_what_is_there_whoever_dies(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In the end no row is missing and none too many, in the state and in the log; and no slot but one is left."""
    try:
        context = running()
        server = context.__enter__()
    except CannotStart as why:
        services.missing("PostgreSQL", str(why))
        return
    try:
        outcome = play(server, tmp_path / "project", SEED, SECONDS)
    finally:
        context.__exit__(None, None, None)
    assert outcome.is_whole, outcome
    assert outcome.kills + outcome.crashes > 0
    services.tell(request, f"changes under fire: {SECONDS:g} s, {outcome}")
