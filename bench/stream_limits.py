"""What a stream needs: time of its own, memory, and processor, on a Kafka broker that is started here.

    ./run bench stream_limits [--only latency,rest,asof,recovery,keys,burst,scale,table] [--count 1000000]

- *latency*: from before a message is sent until its result is read, at 1,000 messages a second for 20 s.
- *rest*: the share of a core that a stream takes that has nothing to do, over 20 s.
- *asof*: messages a second of an as-of join of two topics.
- *recovery*: windows a second that are made anew of a changelog, in RocksDB, from asking the group until tasks work.
- *keys*: peak memory with five million keys in state. *burst*: with five million messages that wait at the start.
- *scale*: processor time a message of two processes with a partition each, by that of one with both.
- *table*: rows a second of the same functions over a table of 20 million rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
from figures import keep
from messages import fill, messages

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from harness.kafka import running

PEER = Path(__file__).resolve().parent / "peers" / "tidemill_stream.py"


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench stream_limits", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--count", type=int, default=1_000_000)
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    found: dict[str, Any] = {}
    missed = []
    with running() as kafka, tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        bench = Bench(kafka.servers, Path(folder))
        for name in options.only.split(","):
            figures, wanted, good = PARTS[name](bench, options.count)
            found[name] = {**figures, "wanted": wanted}
            print(f"{name:<10} {wanted:<40} {json.dumps(figures)}", flush=True)
            if not good:
                missed.append(f"{name}: {wanted}")
    for text in missed:
        print(f"missed: {text}")
    keep("stream_limits", about, found)
    return 1 if missed else 0


class Bench:
    """Topics and processes on one broker."""

    def __init__(self, servers: str, folder: Path) -> None:
        self.servers = servers
        self._folder = folder
        self._made = 0

    def topic(self, partitions: int, count: int = 0, keys: int = 1000, per_ms: int = 10) -> str:
        """A topic with messages; its name."""
        from confluent_kafka.admin import AdminClient, NewTopic

        self._made += 1
        name = f"t{self._made}"
        admin = AdminClient({"bootstrap.servers": self.servers})
        made = admin.create_topics([NewTopic(name, partitions, 1, config={"retention.ms": "-1"})])
        made[name].result(30)
        time.sleep(1)
        if count:
            fill(self.servers, name, count, keys, per_ms)
        return name

    def start(self, work: str, topic: str, out: str, *more: str, folder: str = "") -> subprocess.Popen[str]:
        """A process of a stream."""
        place = self._folder / (folder or f"p{time.monotonic_ns()}")
        command = [
            sys.executable, str(PEER), str(place), "--servers", self.servers, "--work", work, "--topic", topic,
            "--out", out, *more,
        ]  # fmt: skip
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, work: str, topic: str, out: str, *more: str, folder: str = "") -> dict[str, Any]:
        """Run one to its end; what it printed."""
        return ended(self.start(work, topic, out, *more, folder=folder))


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a process printed at its end."""
    out, errors = process.communicate(timeout=1800)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        raise SystemExit(f"A stream could not be measured:\n{out[-2000:]}\n{errors[-4000:]}")
    made: dict[str, Any] = json.loads(lines[-1])
    return made


Figures = tuple[dict[str, Any], str, bool]


def latency(bench: Bench, _: int) -> Figures:
    """Per guarantee: how long messages take, in milliseconds."""
    found = {}
    for guarantee in ("at-least-once", "exactly-once"):
        topic, out = bench.topic(1), bench.topic(1)
        process = bench.start("same", topic, out, "--seconds", "40", "--guarantee", guarantee)
        took = _times(bench.servers, topic, out)
        process.kill()
        process.communicate()
        found[guarantee] = {f"p{share}": round(took[len(took) * share // 100 - 1], 1) for share in (50, 99, 100)}
    good = found["at-least-once"]["p99"] <= 50 and found["exactly-once"]["p99"] <= 1050
    return found, "p99 <= 50 ms; exactly once <= 1,050 ms", good


def _times(servers: str, topic: str, out: str, seconds: float = 20, rate: int = 1000) -> list[float]:
    """Milliseconds of each message, in order; the first five seconds are not counted."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": servers, "group.id": "latency", "isolation.level": "read_committed",
        "fetch.wait.max.ms": 5,
    })  # fmt: skip
    consumer.assign([TopicPartition(out, 0, 0)])
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    stopping = threading.Event()

    def produce() -> None:
        number, began = 0, time.perf_counter()
        while not stopping.is_set():
            due = int((time.perf_counter() - began) * rate)
            for _ in range(max(0, due - number)):
                number += 1
                producer.produce(topic, json.dumps({"ts": time.time_ns() // 1000, "key": "a"}).encode(), b"a")
            producer.poll(0)
            time.sleep(0.001)

    thread = threading.Thread(target=produce)
    thread.start()
    took, began = [], None
    try:
        while began is None or time.perf_counter() - began < seconds + 5:
            for message in consumer.consume(500, 0.01):
                value = message.value()
                if message.error() is None and value is not None:
                    began = time.perf_counter() if began is None else began
                    if time.perf_counter() - began > 5:
                        took.append(time.time_ns() / 1e6 - json.loads(value)["ts"] / 1e3)
    finally:
        stopping.set()
        thread.join()
        producer.purge()
        consumer.close()
    return sorted(took)


def rest(bench: Bench, _: int) -> Figures:
    """The share of a core, in percent."""
    made = bench.run("b", bench.topic(8), bench.topic(8), "--seconds", "20")
    share = round(100 * made["cpu_seconds"] / made["seconds"], 2)
    return {"percent": share, "peak_mb": made["peak_mb"]}, "< 1 % of a core", share < 1


def asof(bench: Bench, count: int) -> Figures:
    """Messages of both topics a second."""
    topic, other = bench.topic(8, count), bench.topic(8, count // 10, per_ms=1)
    made = bench.run("asof", topic, bench.topic(8), "--other", other, "--count", str(count + count // 10))
    return made, ">= 300,000 messages/s", made["per_s"] >= 300_000


def recovery(bench: Bench, count: int) -> Figures:
    """Windows, each of one key, that come back a second; a record of the changelog has many."""
    topic, out = bench.topic(8, 2 * count, 2 * count), bench.topic(8)
    bench.run("hours", topic, out, "--count", str(2 * count), folder="recovery")
    made = bench.run("hours", topic, out, "--recover", folder="recovery")
    return made, ">= 500,000 windows/s", made["per_s"] >= 500_000


def keys(bench: Bench, _: int) -> Figures:
    """Peak memory; of 5.8 million keys that are drawn from, 12 million messages meet about five."""
    made = bench.run("hours", bench.topic(8, 12_000_000, 5_800_000), bench.topic(8), "--count", "12000000")
    return made, "5M keys within 1 GB", made["peak_mb"] <= 1024


def burst(bench: Bench, _: int) -> Figures:
    """Peak memory with a queue at the start."""
    made = bench.run("a", bench.topic(8, 5_000_000), bench.topic(8), "--count", "5000000")
    return made, "5M waiting messages within 1 GB", made["peak_mb"] <= 1024


def scale(bench: Bench, count: int) -> Figures:
    """Processor time a message: of two processes that have a partition each, by one that has both."""
    topic = bench.topic(2, 2 * count)
    one = bench.run("a", topic, bench.topic(2), "--count", str(2 * count))
    out = bench.topic(2)
    both = [
        bench.start("a", topic, out, "--seconds", "20", "--identity", f"bench-{n}", folder=f"scale{n}") for n in (0, 1)
    ]
    two = [ended(process) for process in both]
    done = sum(made["messages"] for made in two)
    each = [made["messages"] for made in two]
    cpu = sum(made["cpu_seconds"] for made in two) / max(1, done) * 1e6
    times = round(cpu / one["cpu_us"], 2)
    figures = {"one_us": one["cpu_us"], "two_us": round(cpu, 2), "times": times, "messages": each}
    return figures, "<= 1.15 times, of all messages", times <= 1.15 and done >= 2 * count


def table(_: Bench, count: int) -> Figures:
    """Rows a second of `a` and `b` over Parquet files of 20 million rows, written as Parquet again."""
    import polars as pl

    import tidemill as tm
    from peers.tidemill_stream import COLUMNS, a, b
    from tidemill.adapters.polars.engine import PolarsEngine

    many = 20 * count
    figures: dict[str, Any] = {"rows": many}
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        for part in range(0, many, 2_000_000):
            rows = (
                messages(min(2_000_000, many - part), 1000, part).get_column("value").str.json_decode(_struct(COLUMNS))
            )
            rows.struct.unnest().write_parquet(Path(folder) / f"{part}.parquet")
        for name, work in (("a", a), ("b", b)):
            frame = work(tm.Frame.literal(pl.scan_parquet(f"{folder}/*.parquet")))
            began = time.perf_counter()
            with PolarsEngine().batches(frame, {}) as reader:
                figures[f"{name}_out"] = sum(batch.num_rows for batch in reader)
            figures[f"{name}_per_s"] = round(many / (time.perf_counter() - began))
    return figures, ">= 3,000,000 rows/s", min(figures["a_per_s"], figures["b_per_s"]) >= 3_000_000


def _struct(columns: dict[str, str]) -> Any:
    import polars as pl

    kinds = {"long": pl.Int64(), "double": pl.Float64(), "string": pl.String()}
    return pl.Struct({name: kinds[kind] for name, kind in columns.items()})


PARTS: dict[str, Callable[[Bench, int], Figures]] = {
    "latency": latency, "rest": rest, "asof": asof, "recovery": recovery, "keys": keys, "burst": burst,
    "scale": scale, "table": table,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
