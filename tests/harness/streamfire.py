"""Streams under fire: processes and brokers are killed while a producer runs, and then the results are counted.

What the input topic has is the input, and it has what was acknowledged to the producer; windows over it are computed by
plain SQL. The output topics (read committed) and the table of the lake must hold each of them once.

A process that ends by itself is started again, as whoever looks after processes does; that it ended is told.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from harness import fire_input
from harness.fire_report import Process, report
from harness.kafka import Kafka

PARTITIONS = 4
PIPELINES = """
import polars as pl
import tidemill as tm

p = tm.Pipeline("fire")
COLUMNS = {"ts": "long", "key": "string", "team": "string", "v": "long"}
events = tm.topic("events", COLUMNS, key="key", partitions=4)


@p.stream(events, every="500ms")
def sums(events):
    f = events
    f["at"] = pl.from_epoch(f["ts"], time_unit="ms")
    made = dict(n=tm.agg.count(), total=tm.agg.sum("v"))
    # The first needs no rows of other partitions; the second goes through a topic of the stream's own.
    keys = f.tumbling_window("1s", on="at", by="key").agg(**made).final().to_topic("keys").to_table("keys")
    teams = f.tumbling_window("1s", on="at", by="team").agg(**made).final().to_topic("teams")
    return [keys, teams]
"""
#: Seconds without an acknowledgement after which the producer is taken for stuck, and replaced.
STUCK = 20.0
#: Seconds after the last message, and after the last results, in which more must come until all are there: a process
#: that died may hold up those of others for 70 (its transaction's time, and how often brokers look).
PATIENCE = 120
#: In what a process says that ends because brokers do not answer.
AWAY = "(Kafka at "
#: Seconds for which a process is stopped: longer than it may be silent as a member.
ASLEEP = 12.0


class Input:
    """The process that writes messages.

    Args:
        log: where it says how far it is.
        servers: of the cluster.
        rate: messages a second.
        first: the number of the first.
    """

    def __init__(self, log: Path, servers: str, rate: int, first: int) -> None:
        self.log = log
        self._first = first
        self._acknowledged = 0
        self._moved_at = time.monotonic()
        command = [sys.executable, fire_input.__file__, servers, "events", *map(str, (PARTITIONS, rate, first))]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def progress(self) -> tuple[int, int]:
        """The next number, and how many messages were acknowledged; as far as it has said."""
        lines = [line.split() for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        said = [line for line in lines if len(line) == 3 and all(part.isdigit() for part in line)]
        return (int(said[-1][0]), int(said[-1][1])) if said else (self._first, 0)

    def is_stuck(self) -> bool:
        """Whether it has died, or nothing was acknowledged for long."""
        acknowledged = self.progress()[1]
        if acknowledged != self._acknowledged:
            self._acknowledged, self._moved_at = acknowledged, time.monotonic()
        return self._process.poll() is not None or time.monotonic() - self._moved_at > STUCK

    def finish(self) -> bool:
        """Have it write its last messages; whether all was acknowledged."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(70) == 0
        return False

    def kill(self) -> int:
        """End it; gives how many messages were acknowledged."""
        self._process.kill()
        self._process.wait()
        return self.progress()[1]


@dataclass
class Fire:
    """One session.

    Args:
        kafka: the brokers.
        folder: of the project.
        rng: decides.
        rate: messages a second.
    """

    kafka: Kafka
    folder: Path
    rng: random.Random
    rate: int = 2000
    processes: list[Process] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    input: Input | None = None
    acknowledged: int = 0
    #: The process that is stopped, and when it is to go on.
    asleep: tuple[Process, float] | None = None
    started: int = 0
    #: What those have said that ended by themselves, without a reason.
    ended: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Topics and project."""
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.kafka.servers, "log_level": 0})
        replicas = min(3, len(self.kafka.brokers))
        made = admin.create_topics([NewTopic(name, PARTITIONS, replicas) for name in ("events", "keys", "teams")])
        for future in made.values():
            future.result(30)
        (self.folder / "pipelines").mkdir(parents=True)
        (self.folder / "pipelines" / "fire.py").write_text(PIPELINES)
        (self.folder / "tidemill.toml").write_text(
            f'[project]\nname = "fire"\n[streams]\nbroker = "kafka://{self.kafka.servers}"\n'
        )

    def start(self) -> None:
        """One more process of the stream."""
        self.processes.append(Process(self.folder, self.started))
        self.started += 1

    def produce(self, first: int = 0, rate: int | None = None) -> Input:
        """Start writing messages from a number on; whatever wrote before is ended."""
        if self.input is not None:
            self.acknowledged += self.input.kill()
        rate = self.rate if rate is None else rate
        self.input = Input(self.folder / f"input-{time.monotonic_ns()}.log", self.kafka.servers, rate, first)
        return self.input

    def look_after_input(self) -> None:
        """A producer that does not get on is replaced by one that goes on with the next number."""
        assert self.input is not None
        if self.input.is_stuck():
            self.kills["producer"] += 1
            self.produce(self.input.progress()[0])

    def look_after_processes(self) -> None:
        """Those that ended by themselves are started again; only that brokers do not answer is a reason to."""
        for process in [one for one in self.processes if one.running.poll() is not None]:
            self.kills["ended"] += 1
            if AWAY not in process.said():
                self.ended.append(str(process))
            self.processes.remove(process)
            self.start()

    def finish_input(self) -> None:
        """Write what ends everything; all that was written is acknowledged, or the producer was replaced.

        Raises:
            AssertionError: that cannot be written.
        """
        for _ in range(3):
            assert self.input is not None
            if self.input.finish():
                self.acknowledged += self.input.progress()[1]
                return
            self.kills["producer"] += 1
            self.produce(self.input.progress()[0], 0)
        raise AssertionError(f"the last messages cannot be written: {self.input.log.read_text()[-2000:]}")

    def harass(self, seconds: float) -> None:
        """Kill, and start again, for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.rng.uniform(0.5, 3.0))
            self.look_after_input()
            self._wake()
            self.look_after_processes()
            if len(self.kafka.brokers) > 1 and self.rng.random() < 0.25:
                broker = self.rng.choice(self.kafka.brokers)
                broker.kill()
                self.kills["broker"] += 1
                time.sleep(self.rng.uniform(0.5, 2.0))
                broker.start()
            elif self.asleep is None and self.rng.random() < 0.15:
                # It stops in the middle of something, is replaced, and comes back as if nothing had been.
                zombie = self.rng.choice(self.processes)
                zombie.running.send_signal(signal.SIGSTOP)
                self.kills["zombie"] += 1
                self.asleep = (zombie, time.monotonic() + ASLEEP)
            else:
                awake = [one for one in self.processes if self.asleep is None or one is not self.asleep[0]]
                victim = self.rng.choice(awake)
                self.processes.remove(victim)
                victim.kill()
                self.kills["process"] += 1
                self.start()
        if self.asleep is not None:
            time.sleep(max(0.0, self.asleep[1] - time.monotonic()))
            self._wake()

    def _wake(self) -> None:
        """Let the process that was stopped go on, once it was away for longer than a session."""
        if self.asleep is not None and time.monotonic() >= self.asleep[1]:
            self.asleep[0].running.send_signal(signal.SIGCONT)
            self.asleep = None

    def end(self) -> None:
        """Stop the processes as one should."""
        if self.input is not None:
            self.input.kill()
        for process in self.processes:
            process.running.send_signal(signal.SIGCONT)
            process.running.send_signal(signal.SIGINT)
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.running.wait(60)
            process.kill()

    # What came of it

    def written(self) -> list[tuple[int, str, str, int]]:
        """The input: what its topic has."""
        return [(row["ts"], row["key"], row["team"], row["v"]) for row in self._messages("events")]

    def expected(self, written: list[tuple[int, str, str, int]], by: str) -> Counter[tuple[Any, ...]]:
        """The windows over the input, without those that end everything."""
        rows = pl.DataFrame(written, schema=["ts", "key", "team", "v"], orient="row")  # noqa: F841  # read below
        query = f"select {by}, ts // 1000, count(*), sum(v) from rows where ts < {fire_input.END} group by all"
        return Counter(duckdb.sql(query).fetchall())

    def topic(self, name: str, by: str) -> Counter[tuple[Any, ...]]:
        """The windows in a topic, as far as they are committed."""
        rows = self._messages(name)
        starts = pl.Series([row["window_start"] for row in rows], dtype=pl.String).str.to_datetime(time_zone="UTC")
        found = zip(rows, starts.dt.epoch("s"), strict=True)
        return Counter((row[by], at, row["n"], row["total"]) for row, at in found)

    def _messages(self, name: str) -> list[dict[str, Any]]:
        """All that is committed in a topic: up to the end of each partition, or to a transaction that is still open."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self.kafka.servers, "group.id": "count", "isolation.level": "read_committed",
             "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
        )  # fmt: skip
        consumer.assign([TopicPartition(name, number, 0) for number in range(PARTITIONS)])
        found: list[dict[str, Any]] = []
        ended: set[int | None] = set()
        until = time.monotonic() + PATIENCE
        while len(ended) < PARTITIONS and time.monotonic() < until:
            for message in consumer.consume(10_000, 0.5):
                error = message.error()
                if error is None:
                    found.append(json.loads(message.value()))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
        consumer.close()
        return found

    def table(self) -> Counter[tuple[Any, ...]]:
        """The windows in the table of the lake."""
        import tidemill as tm
        from tidemill.model.errors import UnknownName

        query = "select key, cast(epoch(window_start) as bigint), n, total from fire.keys"
        try:
            rows = tm.query(query, project=str(self.folder)).to_arrow()
        except UnknownName:
            return Counter()  # no batch of it was published yet
        return Counter(zip(*(column.to_pylist() for column in rows.columns), strict=True))


@dataclass(frozen=True)
class Outcome:
    """What came of a session: `lost` and `doubled` have of each output the windows that are wrong.

    `ended`: what processes have said that ended by themselves without a reason. `report`: how everything stood, where
    not all was there.
    """

    messages: int
    acknowledged: int
    windows: int
    kills: dict[str, int]
    lost: dict[str, Counter[Any]]
    doubled: dict[str, Counter[Any]]
    ended: list[str]
    report: str

    def __str__(self) -> str:
        wrong = [sum(map(Counter.total, some.values())) for some in (self.lost, self.doubled)]
        return (
            f"{self.messages} messages, kills {self.kills}, {self.windows} windows, {wrong[0]} lost, {wrong[1]} doubled"
        )

    def wrong(self) -> str:
        """What is wrong, and what is to be known of it; empty where nothing is."""
        found = [
            f"{name}: {len(some)} {what}, the first {sorted(some)[:3]}"
            for what, outputs in (("lost", self.lost), ("doubled", self.doubled))
            for name, some in outputs.items()
            if some
        ]
        return "\n".join([*found, *self.ended, self.report]).strip()


def play(kafka: Kafka, folder: Path, seed: int, seconds: float) -> Outcome:
    """Two processes of a stream, a producer, and so many seconds of deaths; then the results are counted."""
    fire = Fire(kafka, folder, random.Random(seed))
    fire.prepare()
    fire.start()
    fire.start()
    try:
        fire.produce()
        fire.harass(seconds)
        fire.finish_input()
        written = fire.written()
        keys, teams = fire.expected(written, "key"), fire.expected(written, "team")
        found = _until_complete(fire, keys, teams)
        complete = found["keys"] >= keys and found["teams"] >= teams and found["table"] >= keys
        told = "" if complete else report(kafka, folder, fire.processes)
    finally:
        fire.end()
    # Again, as nobody writes any more: what came twice, came by now.
    found |= {"keys": fire.topic("keys", "key"), "teams": fire.topic("teams", "team")}
    wanted = {"keys": keys, "teams": teams, "table": keys}
    return Outcome(
        len(written),
        fire.acknowledged,
        keys.total() + teams.total(),
        dict(fire.kills),
        {name: wanted[name] - found[name] for name in wanted},
        {name: found[name] - wanted[name] for name in wanted},
        fire.ended,
        told,
    )


def _until_complete(fire: Fire, keys: Counter[Any], teams: Counter[Any]) -> dict[str, Counter[Any]]:
    """What is there once everything is there, or when patience ends."""
    wanted = {"keys": keys, "teams": teams, "table": keys}
    found: dict[str, Counter[Any]] = {name: Counter() for name in wanted}
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and any(not found[name] >= wanted[name] for name in wanted):
        time.sleep(0.5)
        fire.look_after_processes()
        before = sum(map(Counter.total, found.values()))
        found = {"keys": fire.topic("keys", "key"), "teams": fire.topic("teams", "team"), "table": fire.table()}
        if sum(map(Counter.total, found.values())) > before:
            until = time.monotonic() + PATIENCE
    return found
