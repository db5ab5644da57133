"""Upgrades of a destination's schema in processes that are killed: between two statements, and around each commit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.crashing import guarded
from harness.landing import Landing, duckdb_landing, postgres_landing
from harness.revising import VERSIONS, Revising
from tidemill.flow.schemas import apply
from tidemill.model.migration import Existing, Migration

#: What the tables are to be, revision after revision: made, widened, joined by another one, and cut back.
WANTED: tuple[dict[str, dict[str, str]], ...] = (
    {"shop.t": {"id": "long", "said": "int", "old": "string"}},
    {"shop.t": {"id": "long", "said": "string", "day": "date", "old": "string"}, "shop.u": {"id": "long"}},
    {"shop.t": {"id": "long", "said": "string", "day": "timestamp"}, "shop.u": {"id": "long", "n": "double"}},
)


def landing_at(kind: str, address: str) -> Landing:
    """A destination."""
    return duckdb_landing(Path(address)) if kind == "duckdb" else postgres_landing(address)


def standing(there: Revising) -> tuple[tuple[str, ...], Existing]:
    """Which revisions it notes, and what its tables are."""
    return there.applied(), there.schemas.existing(["shop.t", "shop.u"])


class Doomed(tuple[str, ...]):
    """Statements: when the last of so many has been done, the process is killed."""

    left = 0

    def __iter__(self) -> Iterator[str]:
        for number, statement in enumerate(super().__iter__()):
            if number == self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            yield statement
        if self.left == len(self):
            os.kill(os.getpid(), signal.SIGKILL)


def places(steps: list[Migration]) -> list[tuple[int, int, int]]:
    """Where an upgrade can die: step, part of it, and how many statements of that are done."""
    return [
        (step, part, done)
        for step, migration in enumerate(steps)
        for part, told in enumerate(migration.parts)
        for done in range(len(told.statements) + 1)
    ]


def upgrade_killed(root: Path, kind: str, address: str, place: tuple[int, int, int], report: Path) -> None:
    """Upgrade, and be killed there."""

    def work() -> None:
        there = Revising(root, landing_at(kind, address))
        steps = there.revisions.steps(there.schemas.applied(VERSIONS))
        step, part, done = place
        parts = list(steps[step].parts)
        doomed = Doomed(parts[part].statements)
        doomed.left = done
        parts[part] = replace(parts[part], statements=doomed)
        steps[step] = replace(steps[step], parts=tuple(parts))
        apply("there", there.schemas, steps)

    guarded(work, report)
