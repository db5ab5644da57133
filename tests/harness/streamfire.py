"""Streams under fire: processes and brokers are killed while a producer runs, and then the results are counted.

What was acknowledged to the producer is the input; windows over it are computed by plain SQL. The output topics (read
committed) and the table of the lake must hold each of them once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

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
#: Event time of the messages that end everything.
_END = 3_600_000


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
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    sent: list[tuple[int, str, str, int]] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    refused: int = 0

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
        with (self.folder / f"process-{len(self.kills)}.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [str(Path(sys.executable).with_name("tidemill")), "--project", str(self.folder), "stream", "run"],
                    stdout=log, stderr=log, start_new_session=True,
                )
            )  # fmt: skip

    def produce(self, stopping: threading.Event) -> None:
        """Write messages until it is time to stop; then those that end everything."""
        from confluent_kafka import Producer

        producer = Producer(
            {
                "bootstrap.servers": self.kafka.servers, "enable.idempotence": True, "linger.ms": 5, "log_level": 0,
                "message.timeout.ms": 120_000, "partitioner": "murmur2_random",
            }
        )  # fmt: skip

        def send(ts: int, number: int, partition: int | None) -> None:
            row = (ts, f"k{number % 50}", f"t{number % 7}", number % 100)
            value = json.dumps(dict(zip(("ts", "key", "team", "v"), row, strict=True))).encode()

            def told(error: object, _message: object) -> None:
                if error is None:
                    self.sent.append(row)
                else:
                    self.refused += 1

            where: dict[str, Any] = {} if partition is None else {"partition": partition}
            producer.produce("events", value, row[1].encode(), on_delivery=told, **where)
            producer.poll(0)

        number, began = 0, time.monotonic()
        while not stopping.is_set():
            due = int((time.monotonic() - began) * self.rate)
            while number < due:
                send(number * 1000 // self.rate, number, None)
                number += 1
            time.sleep(0.01)
        for partition in range(PARTITIONS):
            send(number * 1000 // self.rate + _END, partition, partition)
        left = producer.flush(120)
        assert left == 0, f"{left} messages were never acknowledged"

    def harass(self, seconds: float) -> None:
        """Kill, and start again, for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.rng.uniform(0.5, 3.0))
            if len(self.kafka.brokers) > 1 and self.rng.random() < 0.25:
                broker = self.rng.choice(self.kafka.brokers)
                broker.kill()
                self.kills["broker"] += 1
                time.sleep(self.rng.uniform(0.5, 2.0))
                broker.start()
            elif self.rng.random() < 0.15:
                # It stops in the middle of something, is replaced, and comes back as if nothing had been.
                zombie = self.rng.choice(self.processes)
                os.kill(zombie.pid, signal.SIGSTOP)
                self.kills["zombie"] += 1
                time.sleep(12)
                os.kill(zombie.pid, signal.SIGCONT)
            else:
                victim = self.rng.choice(self.processes)
                self.processes.remove(victim)
                os.killpg(victim.pid, signal.SIGKILL)
                victim.wait()
                self.kills["process"] += 1
                self.start()

    def end(self) -> None:
        """Stop the processes as one should."""
        for process in self.processes:
            process.send_signal(signal.SIGINT)
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    # What came of it

    def expected(self, by: str) -> Counter[tuple[Any, ...]]:
        """The windows over the acknowledged input, without those that end everything."""
        rows = pl.DataFrame(self.sent, schema=["ts", "key", "team", "v"], orient="row")  # noqa: F841  # read below
        least = max(row[0] for row in self.sent) - _END // 2
        query = f"select {by}, ts // 1000, count(*), sum(v) from rows where ts < {least} group by all"
        return Counter(duckdb.sql(query).fetchall())

    def topic(self, name: str, by: str, wait: float = 5.0) -> Counter[tuple[Any, ...]]:
        """The windows in a topic, as far as they are committed."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self.kafka.servers, "group.id": "count", "isolation.level": "read_committed",
             "enable.auto.commit": False, "log_level": 0}
        )  # fmt: skip
        consumer.assign([TopicPartition(name, number, 0) for number in range(PARTITIONS)])
        found: Counter[tuple[Any, ...]] = Counter()
        quiet = time.monotonic()
        while time.monotonic() - quiet < wait:
            for message in consumer.consume(10_000, 0.5):
                if message.error() is None:
                    quiet = time.monotonic()
                    found[self._window(json.loads(message.value()), by)] += 1
        consumer.close()
        return found

    @staticmethod
    def _window(row: dict[str, Any], by: str) -> tuple[Any, ...]:
        start = pl.Series([row["window_start"]]).str.to_datetime(time_zone="UTC", strict=False)
        at = start.dt.epoch("s")[0]
        return row[by], at, row["n"], row["total"]

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
