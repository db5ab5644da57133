"""Streams beside Quix Streams and Faust, on the same Kafka broker: messages a second of small JSON objects.

    ./run bench stream [--count 1000000] [--only tidemill,quix,faust,hand] [--work a,b,b1m,five] [--repeat 3]

The broker is a real one (KRaft, one node, eight partitions), started here. Each peer gets the same messages of some
119 bytes in a topic, reads it from the beginning, and writes its results to another; time runs from the first message
that it has (of Tidemill, which loads modules with it, after a twentieth) to the last, with results sent and positions
committed. Peers take turns; the median of the repeats counts.

- *a*: parse, multiply, filter, serialise.
- *b*: the mean of ten seconds of event time for each of 1,000 keys, with state in RocksDB and its changelog; results
  when windows close. Quix is measured in its two modes, and the better one counts. *b1m*: with 1,000,000 keys.
- *five*: five plain Python functions on each row.

*hand* is a loop written by hand over Tidemill's Kafka client and JSON decoder, with nothing else: what Python costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import environments
import measure
from figures import keep
from messages import fill

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from harness.kafka import running

PEERS = Path(__file__).resolve().parent / "peers"
PARTITIONS = 8
#: Peer -> the work that it can do, by our names -> its own names for it.
WORK = {
    "tidemill": {"a": ["a"], "b": ["b"], "b1m": ["b"], "five": ["five"]},
    "quix": {"a": ["a"], "b": ["b", "b_current"], "b1m": ["b", "b_current"], "five": ["five"]},
    "faust": {"a": ["a"], "b": ["b"]},
    "hand": {"a": ["a"], "five": ["five"]},
}
#: Peers that take minutes get fewer messages.
SHARE = {"tidemill": 1.0, "quix": 0.3, "faust": 0.05, "hand": 1.0}
#: Least messages a second, and how many times the best of Quix.
LEAST = {"a": (300_000, 4), "b": (400_000, 10), "b1m": (0, 5), "five": (0, 3)}


def create(servers: str, *topics: str) -> None:
    """Make topics."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": servers})
    # The messages' times are of 2023: a broker's default retention would remove them while they are read.
    made = admin.create_topics([NewTopic(t, PARTITIONS, 1, config={"retention.ms": "-1"}) for t in topics])
    for future in made.values():
        future.result(30)
    time.sleep(1)


def measured(peer: str, servers: str, work: str, count: int, topic: str) -> dict[str, Any]:
    """One run of a peer."""
    out = f"{peer}-{work}-{time.monotonic_ns()}".replace("_", "-")
    create(servers, out)
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        command = [
            environments.python("tidemill" if peer == "hand" else peer), str(PEERS / f"{peer}_stream.py"), folder,
            "--servers", servers, "--work", work, "--count", str(count), "--topic", topic, "--out", out,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=900)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"{peer} could not be measured:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench stream", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--only", default="tidemill,quix,faust,hand")
    parser.add_argument("--work", default="a,b,b1m,five")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    found: dict[str, dict[str, Any]] = {}
    # A machine that stands still for seconds must not cost the broker its place.
    with running(settings={"broker.session.timeout.ms": "60000"}) as kafka:
        for work in options.work.split(","):
            keys = 1_000_000 if work == "b1m" else 1000
            peers = [peer for peer in options.only.split(",") if work in WORK[peer]]
            runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for peer in peers:
                create(kafka.servers, f"in-{work}-{peer}")
                fill(kafka.servers, f"in-{work}-{peer}", int(options.count * SHARE[peer]), keys)
            # By turns, so that a machine that is slow for some minutes is slow for all of them.
            for _ in range(options.repeat):
                for peer in peers:
                    for name in WORK[peer][work]:
                        count = int(options.count * SHARE[peer])
                        one = measured(peer, kafka.servers, name, count, f"in-{work}-{peer}")
                        runs.setdefault((peer, name), []).append(one)
            for (peer, name), ones in runs.items():
                median = round(statistics.median(one["per_s"] for one in ones))
                best = {"per_s": median, "runs": [one["per_s"] for one in ones], **_rest(ones[0])}
                found.setdefault(work, {})[f"{peer} {name}" if len(WORK[peer][work]) > 1 else peer] = best
                print(f"{work:<5} {peer:<9} {name:<10} {json.dumps(best)}", flush=True)
    missed = table(found)
    for text in missed:
        print(f"missed: {text}")
    keep("stream", about, found)
    return 1 if missed else 0


def _rest(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in ("per_s", "seconds")}


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Print the figures side by side; gives what is not as it must be."""
    missed = []
    print(f"\n{'messages/s':<6} {'tidemill':>12} {'quix':>12} {'faust':>12} {'by hand':>12} {'x quix':>8}")
    for work, peers in found.items():
        mine = peers.get("tidemill", {}).get("per_s")
        quix = max((p["per_s"] for name, p in peers.items() if name.startswith("quix")), default=None)
        faust = peers.get("faust", {}).get("per_s")
        hand = peers.get("hand", {}).get("per_s")
        times = round(mine / quix, 1) if mine and quix else "-"
        print(f"{work:<10} {mine or '-':>12} {quix or '-':>12} {faust or '-':>12} {hand or '-':>12} {times:>8}")
        least, over = LEAST[work]
        if mine is not None and mine < least:
            missed.append(f"{work}: {mine}, and {least} is wanted")
        if isinstance(times, float) and times < over:
            missed.append(f"{work}: {times} times Quix, and {over} is wanted")
    return missed


if __name__ == "__main__":
    sys.exit(main())
