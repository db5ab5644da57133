"""What deferred tasks wait for: async functions that share one loop, so that a thousand of them cost one process.

A trigger returns when what it waits for has happened. Those below are registered by name; others are functions of a
user's code, named by `module:name`, which get nothing but their arguments.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from tidemill.model.errors import UnknownName
from tidemill.model.question import ANSWER
from tidemill.model.run import RunState
from tidemill.ports.clock import Clock
from tidemill.ports.tasks import Pipelines

#: What a trigger is called with: what it may use, and its arguments.
Trigger: TypeAlias = Callable[..., Awaitable[None]]
UserTrigger: TypeAlias = Callable[..., Awaitable[Any]]


class Surroundings:
    """What triggers may use.

    Args:
        clock: the time.
        root: the project's folder.
        pipelines: other pipelines, looked at in a thread beside the loop.
    """

    def __init__(self, clock: Clock, root: Path, pipelines: Pipelines) -> None:
        self.clock = clock
        self.root = root
        self.pipelines = pipelines

    async def sleep(self, seconds: float) -> None:
        """Let others go on for a while."""
        await asyncio.sleep(seconds)


async def moment(about: Surroundings, at: str) -> None:
    """Wait until a time (ISO text)."""
    until = datetime.fromisoformat(at)
    while (left := until - about.clock.now()) > timedelta(0):
        # In pieces: the computer's clock may be set meanwhile.
        await about.sleep(min(left.total_seconds(), 60.0))


async def file(about: Surroundings, path: str, every: float = 1.0) -> None:
    """Wait for a file that matches a pattern relative to the project."""
    while not any(found.is_file() for found in about.root.glob(path)):
        await about.sleep(every)


async def run(about: Surroundings, pipeline: str, moment: str, states: list[str], every: float = 5.0) -> None:
    """Wait until the run of the interval that begins at a moment is in one of some states."""
    wanted, at = {RunState(state) for state in states}, datetime.fromisoformat(moment)
    while await asyncio.to_thread(about.pipelines.state_at, pipeline, at) not in wanted:
        await about.sleep(every)


async def published(about: Surroundings, table: str, every: float = 5.0) -> None:
    """Wait until a batch of a table was published."""
    while not await asyncio.to_thread(about.pipelines.published, table, None):
        await about.sleep(every)


async def answer(_about: Surroundings, **_question: Any) -> None:
    """Wait for a person: whoever takes the answer in lets the task go on, and so it never returns."""
    await asyncio.Event().wait()


TRIGGERS: Mapping[str, Trigger] = {
    "moment": moment, "file": file, "run": run, "published": published, ANSWER: answer,
}  # fmt: skip


def as_fired(value: Any) -> dict[str, Any]:
    """What is noted of a trigger that has returned: its value, where that is JSON."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return {}
    return {} if value is None else {"value": value}


def unknown_trigger(_run_id: int, name: str) -> UserTrigger:
    """Where no user's code can be loaded. Raises UnknownName."""
    raise UnknownName.of("trigger", name, TRIGGERS)
