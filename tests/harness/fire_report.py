"""What is to be known of a stream under fire whose results are not all there: asked while everything still runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from harness.kafka import Kafka

#: Has a process tell, on SIGUSR1, what each of its threads does.
WITNESSED = (
    "import faulthandler, signal, sys; faulthandler.register(signal.SIGUSR1); "
    "from tidemill.cli.main import main; sys.exit(main())"
)
#: Seconds that anybody may take to answer, and lines that are shown of a log.
_WAIT, _TAIL = 30.0, 60


@dataclass(eq=False)
class Process:
    """A process of the stream: `tidemill stream run`.

    Args:
        folder: of the project.
        number: how many were started before.
    """

    folder: Path
    number: int

    def __post_init__(self) -> None:
        self.log = self.folder / f"process-{self.number}.log"
        command = [sys.executable, "-c", WITNESSED, "--project", str(self.folder), "stream", "run"]
        with self.log.open("wb") as log:
            self.running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def said(self) -> str:
        """The end of what it has printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL:])

    def kill(self) -> None:
        """End it, if it has not ended; all that it has started, too."""
        with suppress(ProcessLookupError):
            os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()

    def __str__(self) -> str:
        code = self.running.poll()
        state = "lives" if code is None else f"ended with {code}"
        return f"process {self.number} ({self.running.pid}) {state}:\n{self.said()}"


def report(kafka: Kafka, folder: Path, processes: Sequence[Process]) -> str:
    """Brokers, ends of partitions, the group, what `tidemill stream` says, and what processes do and have said."""
    for process in processes:
        if process.running.poll() is None:
            process.running.send_signal(signal.SIGUSR1)
    time.sleep(1)  # nobody tells when all threads are written down
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    return "\n".join([
        *(f"{one.name} {'runs' if one.process and one.process.poll() is None else 'ended'}" for one in kafka.brokers),
        *_tried(lambda: _partitions(admin)),
        *_tried(lambda: _group(admin, "fire.sums")),
        *_tried(lambda: _asked(folder, "lag")),
        *_tried(lambda: _asked(folder, "show", "fire.sums")),
        *map(str, processes),
    ])  # fmt: skip


def _tried(ask: Callable[[], Iterator[str]]) -> list[str]:
    """What is told; or why nothing is, which says something, too."""
    try:
        return list(ask())
    except (KafkaException, subprocess.TimeoutExpired) as error:
        return [repr(error)]


def _partitions(admin: AdminClient) -> Iterator[str]:
    """Ends of all partitions, and how far they can be read: up to the first transaction that is open."""
    topics = admin.list_topics(timeout=_WAIT).topics
    asked = {TopicPartition(name, number): OffsetSpec.latest() for name in topics for number in topics[name].partitions}
    sent, readable = (
        admin.list_offsets(asked, isolation_level=level, request_timeout=_WAIT)
        for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED)
    )
    for where in sorted(asked):
        one = topics[where.topic].partitions[where.partition]
        try:
            end, upto = sent[where].result().offset, readable[where].result().offset
        except KafkaException as error:
            yield f"{where.topic}[{where.partition}]: {error}"
            continue
        if end:
            held = "" if upto >= end else f", can be read up to {upto}"
            yield f"{where.topic}[{where.partition}]: ends at {end}{held}; led by {one.leader}, in sync {one.isrs}"


def _group(admin: AdminClient, name: str) -> Iterator[str]:
    (future,) = admin.describe_consumer_groups([name], request_timeout=_WAIT).values()
    found = future.result()
    yield f"group {name}: {found.state.name}, coordinated by {found.coordinator.id}"
    for member in found.members:
        yield f"  {member.member_id}: tasks {sorted(one.partition for one in member.assignment.topic_partitions)}"


def _asked(folder: Path, *command: str) -> Iterator[str]:
    """What `tidemill stream` says."""
    program = [str(Path(sys.executable).with_name("tidemill")), "--project", str(folder), "stream", *command]
    done = subprocess.run(program, capture_output=True, text=True, timeout=_WAIT, check=False)
    yield f"tidemill stream {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
