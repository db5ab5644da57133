"""The life of a scheduler's process: plan what is due, drive runs, sleep until something happens; drain and leave.

bell, workers, the next due time -> planner.turn -> scheduler.turn -> sleep
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from tidemill.flow.planner import Planner
from tidemill.flow.scheduler import Scheduler
from tidemill.ports.bell import Bell
from tidemill.ports.executor import Executor

#: How long tasks that run may go on when the scheduler is asked to stop; then they are left to their leases.
DRAIN = timedelta(seconds=20)

_log = logging.getLogger("tidemill")


def serve(
    scheduler: Scheduler,
    planner: Planner | None,
    executor: Executor,
    bell: Bell,
    stopping: Callable[[], bool],
    *,
    handles: Iterable[int] = (),
    drain: timedelta = DRAIN,
) -> None:
    """Schedule until `stopping` says so and nothing runs any more, or `drain` is over.

    Args:
        scheduler: drives runs.
        planner: asks for runs; None: somebody else does.
        executor: the scheduler's.
        bell: wakes it.
        stopping: whether to stop; looked at whenever something happens.
        handles: file descriptors that are readable when it has changed.
        drain: how long tasks may go on then.
    """
    bell.listen()
    until: float | None = None
    plan_at = 0.0
    while True:
        if until is None and stopping():
            scheduler.draining = True
            until = time.monotonic() + drain.total_seconds()
            _log.info("stopping: waiting for tasks that run, for at most %s", drain)
        pause = timedelta(seconds=5)
        if planner is not None and until is None and (time.monotonic() >= plan_at or scheduler.has_ended):
            scheduler.has_ended = False
            pause, asked = planner.turn()
            plan_at = time.monotonic() + pause.total_seconds()
            if asked:
                scheduler.wake()
        pause = min(pause, scheduler.turn())
        if scheduler.news:
            scheduler.news = False
            bell.ring()
        if until is not None and (scheduler.idle or time.monotonic() >= until):
            break
        if scheduler.has_ended and planner is not None and until is None:
            continue
        seconds = min(pause.total_seconds(), max(plan_at - time.monotonic(), 0.0) if planner and until is None else 5.0)
        own = executor.pause()
        if bell.wait(seconds if own is None else min(seconds, own), (*executor.handles(), *handles)):
            scheduler.wake()
            plan_at = 0.0
    try:
        scheduler.release()
    finally:
        bell.close()
