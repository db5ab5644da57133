"""Feeding the topics that streams read, in this process: a thread for each, as long as the streams run."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tidemill.flow.live.feeding import BACK_OFF, Feeding
from tidemill.flow.live.progress import progress_topic
from tidemill.flow.stream.facts import ProcessFacts, State
from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.frame.topic import Topic
from tidemill.model.place import told as told_of
from tidemill.ports.topic import TopicSpec
from tidemill.wiring.live import open_live, writing

if TYPE_CHECKING:
    from tidemill.flow.services import Services
    from tidemill.ports.registry import Registry
    from tidemill.ports.topic import Topics
    from tidemill.wiring.settings import Settings

_log = logging.getLogger("tidemill")

#: Seconds between two times that what a source does is told to others.
_TELL = 5.0
#: Before the topic's name: whose facts these are, among those of streams.
FEEDS = "source:"


class Feeders:
    """The sources that this process feeds topics from.

    Args:
        settings: the project.
        services: of the project.
        topics: the broker.
        registry: of schemas, if there is one.
        told: is told what goes wrong, a line at a time.
    """

    def __init__(
        self,
        settings: Settings,
        services: Services,
        topics: Topics,
        registry: Registry | None,
        told: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._services = services
        self._topics = topics
        self._registry = registry
        self._told = told
        self._ending = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._called: dict[str, str] = {}

    def start(self, topic: Topic) -> None:
        """Feed a topic, if it has a source and is not fed already."""
        if topic.source is None:
            return
        called = str(topic.source)
        if topic.name in self._threads:
            if self._called[topic.name] != called:
                self._told(f"{topic} is fed from {self._called[topic.name]}, so {called} is left out")
            return
        thread = threading.Thread(target=self._run, args=(topic, called), name=f"feed-{topic}", daemon=True)
        self._threads[topic.name], self._called[topic.name] = thread, called
        thread.start()

    def stop(self) -> None:
        """End them all."""
        self._ending.set()
        for thread in self._threads.values():
            thread.join()

    def _run(self, topic: Topic, called: str) -> None:
        teller = _Teller(self._services, topic.name, called, self._told)
        falls = 0
        while not self._ending.is_set():
            try:
                self._feeding(topic, called, teller).run(self._ending.is_set)
            except Exception as error:
                teller.failed(error)
                self._ending.wait(BACK_OFF[min(falls, len(BACK_OFF) - 1)])
                falls += 1
        teller.ended()

    def _feeding(self, topic: Topic, called: str, teller: _Teller) -> Feeding:
        if self._topics.describe(topic.name) is None:
            self._topics.create(TopicSpec.of(topic))
        self._topics.create(progress_topic(topic.name))
        feeding = Feeding(
            topic.name,
            called,
            open_live(topic, self._settings, self._services, self._registry),
            writing(topic, self._registry),
            self._topics,
            self._services.clock,
            teller.failed,
        )
        feeding.looked_at = teller.look
        return feeding


class _Teller:
    """Tells people and other processes what a source does."""

    def __init__(self, services: Services, topic: str, called: str, told: Callable[[str], None]) -> None:
        self._services = services
        self._clock = services.clock
        self._topic = topic
        self._called = called
        self._told = told
        now = self._clock.now()
        host = socket.gethostname()
        self._facts = ProcessFacts(f"{FEEDS}{topic}", f"{host}-{os.getpid()}", host, os.getpid(), now, now)
        self._told_at: float | None = None
        self._last = ""

    def look(self, feeding: Feeding) -> None:
        """Tell how far it is, if it is time to."""
        if feeding.error is None:
            self._last = ""
        now = self._clock.monotonic()
        state: State = "failed" if feeding.error is not None else "running"
        tasks = (self._called,) if feeding.is_at_work else ()
        same = (state, tasks) == (self._facts.state, self._facts.tasks)
        if same and self._told_at is not None and now - self._told_at < _TELL:
            return
        self._told_at = now
        self._facts = replace(
            self._facts,
            at=self._clock.now(),
            state=state,
            tasks=tasks,
            messages=feeding.counts.messages,
            checkpoints=feeding.counts.commits,
            failed=feeding.counts.failures,
            error=None if feeding.error is None else told_of(feeding.error),
            error_at=feeding.error_at,
        )
        self._tell()

    def failed(self, error: Exception) -> None:
        """Tell an error; to people not the same one again."""
        what = told_of(error)
        now = self._clock.now()
        self._facts = replace(self._facts, at=now, state="failed", error=what, error_at=now)
        self._tell()
        if what != self._last:
            self._last = what
            self._told(f"{self._topic} from {self._called}: {what}")

    def ended(self) -> None:
        """It has ended as it should."""
        with suppress(Conflict, Unreachable), self._services.metadata.write() as tx:
            tx.streams.forget(self._facts.stream, self._facts.process)

    def _tell(self) -> None:
        facts = self._facts
        try:
            with self._services.metadata.write() as tx:
                tx.streams.tell(facts.stream, facts.process, facts.at, facts.as_json())
        except (Conflict, Unreachable) as error:  # it is only shown: work goes on
            _log.warning("%s: how it is fed could not be told: %s", self._topic, error)
