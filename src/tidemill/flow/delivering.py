"""What is published and not delivered is delivered: looked for every few seconds, again and again where it fails.

`deliver.py` does one; this decides which are due, and has each done by a process of its own, one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TypeAlias

from tidemill.model.branch import MAIN
from tidemill.model.delivery import Delivery, DeliverySpec, wait_after
from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.place import told
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Metadata

_log = logging.getLogger("tidemill")

#: Has one delivery done, until the event says to stop; gives why it could not even begin or end well, or None.
Worker: TypeAlias = "Callable[[DeliverySpec, threading.Event], str | None]"


class Deliverer:
    """Has deliveries done that are due.

    Args:
        metadata: the database.
        clock: the time.
        work: does one; it notes itself how that went, unless it says why it could not.
        at_once: so many at the same time.
        declare: called before the first look: notes what is to be delivered by the settings.
    """

    def __init__(
        self,
        metadata: Metadata,
        clock: Clock,
        work: Worker,
        at_once: int = 2,
        declare: Callable[[], object] | None = None,
    ) -> None:
        self._metadata = metadata
        self._clock = clock
        self._work = work
        self._at_once = at_once
        self._declare = declare
        self._stopping = threading.Event()
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    @property
    def running(self) -> int:
        """How many deliveries are being done."""
        return len(self._running)

    async def look(self) -> None:
        """Begin what is due."""
        try:
            due = await asyncio.to_thread(self._due)
        except (Unreachable, Conflict) as error:
            _log.warning("Deliveries wait: %s", told(error))
            return
        for one in due:
            key = (one.spec.pipeline, one.spec.to)
            if key not in self._running and len(self._running) < self._at_once:
                self._running[key] = asyncio.get_running_loop().create_task(self._deliver(one, key))

    def _due(self) -> list[Delivery]:
        if self._declare is not None:
            self._declare()
            self._declare = None
        with self._metadata.read() as tx:
            known = tx.deliveries.all()
            if not known:
                return []
            pointers = tx.refs.pointers(MAIN)
        now = self._clock.now()
        return [one for one in known if one.is_due(pointers, now)]

    async def _deliver(self, one: Delivery, key: tuple[str, str]) -> None:
        try:
            error = await asyncio.to_thread(self._work, one.spec, self._stopping)
            if error is not None and not self._stopping.is_set():
                await asyncio.to_thread(self._note, one, error)
        finally:
            del self._running[key]

    def _note(self, one: Delivery, error: str) -> None:
        _log.error("%s is not delivered to %s: %s", one.spec.pipeline, one.spec.to, error)
        try:
            with self._metadata.write() as tx:
                tx.deliveries.failed(one.spec, error, self._clock.now() + wait_after(one.tries + 1))
        except (Unreachable, Conflict):
            return  # it stays due

    async def close(self) -> None:
        """End what is being done: it is there whole, or not at all, and the next deliverer looks."""
        self._stopping.set()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
