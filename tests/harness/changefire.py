"""Change data capture under fire: the reader and the server die while pgbench writes, and then rows are compared.

What a batch sees is decided by the bookmark alone, so whoever dies when, the state and the log here are in the end what
the tables there are: `EXCEPT ALL` both ways. The slot is never ahead of what is published.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from harness import warm
from harness.changing import NAME, Followed, followed
from harness.postgres import Postgres, away, find_binaries
from tidemill.model.cdc import lsn_number

#: pgbench's tables with a key, and what is compared of them; rows of its history are inserts, kept by the log alone.
STATES = {"pgbench_accounts": "aid, abalance", "pgbench_tellers": "tid, tbalance", "pgbench_branches": "bid, bbalance"}
HISTORY, HISTORY_COLUMNS = "pgbench_history", "tid, bid, aid, delta"
PIPELINE = """
import tidemill as tm
from tidemill import sources

shop = tm.Pipeline("shop")
shop.source(
    sources.cdc(
        {name!r}, {tables!r}, slot={slot!r}, key={keys!r}, write={{"pgbench_history": "append"}}, max_changes=20_000
    )
)
"""
#: Transactions of pgbench a second.
RATE = 150
#: A reader lives for so many seconds at most: or, where a batch takes longer, for twice as long as the one before took.
#: Readers are forked with all imported, so what is killed is at work.
MOMENT = 2.0
#: Seconds in which a batch must be done once nobody is killed any more.
PATIENCE = 120


@dataclass
class Outcome:
    """What came of a session."""

    seed: int
    seconds: float
    #: Published batches, readers that were killed, crashes of the server, and runs that ended by an error of theirs.
    batches: int = 0
    kills: int = 0
    crashes: int = 0
    errors: int = 0
    #: Changes in the log, the snapshot's rows not counted.
    changes: int = 0
    #: Table -> rows there; rows there that are not here, and rows here that are not there.
    rows: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)
    #: How often, after a death, the slot was ahead of what is published; and the slots that are left in the end.
    ahead: int = 0
    slots: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """What is here is what is there, and one slot is left."""
        return not (sum(self.missing.values()) or sum(self.extra.values()) or self.ahead) and len(self.slots) == 1

    def __str__(self) -> str:
        return (
            f"{self.changes} changes in {self.batches} batches, {self.kills} readers killed, {self.crashes} crashes of "
            f"the server, {sum(self.missing.values())} rows missing, {sum(self.extra.values())} too many, "
            f"seed {self.seed}"
        )


def play(server: Postgres, root: Path, seed: int, seconds: float) -> Outcome:
    """Follow pgbench for so many seconds, with deaths, and compare in the end.

    Args:
        server: of nobody else: it is crashed.
        root: of the project.
        seed: of the choices.
        seconds: for how long something dies.

    Raises:
        AssertionError: no batch can be had even when nobody is killed any more.
    """
    stop = threading.Event()
    outcome = Outcome(seed, seconds)
    with followed(server, root) as shop:
        _prepare(shop)
        writer = threading.Thread(target=_write, args=(shop.url, stop))
        writer.start()
        try:
            _harass(server, shop, random.Random(seed), outcome)
        finally:
            stop.set()
            writer.join()
        _catch_up(shop, outcome)
        _compare(shop, outcome)
    return outcome


def _prepare(shop: Followed) -> None:
    assert _pgbench(shop.url, "-i", "-q", "-s", "1").wait() == 0
    shop.execute(f"ALTER TABLE {HISTORY} REPLICA IDENTITY FULL")
    root = shop.project.root
    (root / "pipelines").mkdir()
    (root / "tidemill.toml").write_text('[project]\nname = "test"\n', encoding="utf-8")
    keys = {table: columns.partition(",")[0] for table, columns in STATES.items()}
    text = PIPELINE.format(name=NAME, tables=[*STATES, HISTORY], slot=shop.slot, keys=keys)
    (root / "pipelines/shop.py").write_text(text, encoding="utf-8")


def _harass(server: Postgres, shop: Followed, chance: random.Random, outcome: Outcome) -> None:
    """Run batch after batch; whatever takes longer than a moment is killed, or the server below it is."""
    until = time.monotonic() + outcome.seconds
    longest = MOMENT
    while time.monotonic() < until:
        begun, run = time.monotonic(), _run(shop, outcome)
        try:
            done = run.wait(chance.uniform(0.1, longest)) == 0
            outcome.batches += done
            outcome.errors += not done
            longest = max(MOMENT, 2 * (time.monotonic() - begun)) if done else longest
        except subprocess.TimeoutExpired:
            longest *= 1.2
            if chance.random() < 0.4:
                outcome.crashes += 1
                with away(server, signal.SIGQUIT):
                    run.kill()
            else:
                outcome.kills += 1
                run.kill()
            run.wait()
        outcome.ahead += is_ahead(shop)


def _catch_up(shop: Followed, outcome: Outcome) -> None:
    """Take the batch that was killed, and batches until one finds nothing more: each takes so many changes at most."""
    seen = -1
    for number in itertools.count():
        until = time.monotonic() + PATIENCE
        while _run(shop, outcome).wait() != 0:
            # A killed reader's session ends when the server next writes to it.
            assert time.monotonic() < until, (shop.project.root / "run.log").read_text()
        outcome.batches += 1
        before, seen = seen, _changes(shop)
        if number >= 1 and seen == before:
            return


def _changes(shop: Followed) -> int:
    """Changes in the log, the snapshot's rows not counted."""
    found = shop.project.rows("select sum(changes)::bigint as n from shop.changes where _xid is not null")
    return found[0]["n"] or 0


def is_ahead(shop: Followed) -> bool:
    """Whether the slot has let go of something that is not published."""
    found = shop.rows(f"SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{shop.slot}'")
    return bool(found) and lsn_number(found[0][0]) > lsn_number((shop.bookmark() or {"lsn": "0/0"})["lsn"])


def _compare(shop: Followed, outcome: Outcome) -> None:
    compared = {table: (columns, f"shop.{table}") for table, columns in STATES.items()}
    compared[HISTORY] = (HISTORY_COLUMNS, f"shop.changes__{HISTORY}")
    for table, (columns, here) in compared.items():
        outcome.rows[table] = shop.rows(f"SELECT count(*) FROM {table}")[0][0]
        outcome.missing[table], outcome.extra[table] = shop.difference(table, columns, of=here)
    outcome.changes = _changes(shop)
    outcome.slots = [name for (name,) in shop.rows("SELECT slot_name FROM pg_replication_slots")]


def _run(shop: Followed, outcome: Outcome) -> warm.Child | subprocess.Popen[Any]:
    """Begin the next batch, or once more the one that did not end."""
    root, words = shop.project.root, ["-m", "tidemill.cli", "-q", "run", "shop", f"step-{outcome.batches}"]
    with (root / "run.log").open("ab") as log, Path(os.devnull).open() as nothing:
        return warm.started([sys.executable, *words], cwd=root, stdin=nothing, stdout=log, stderr=log)


def _pgbench(url: str, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [find_binaries() / "pgbench", *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _write(url: str, stop: threading.Event) -> None:
    """pgbench, and rows that come and go; both begin again when the server is back."""
    number = 0
    while not stop.is_set():
        bench = _pgbench(url, "-n", "-c", "2", "-R", str(RATE), "-T", "3600")
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                while not stop.is_set() and bench.poll() is None:
                    number += 1
                    connection.execute("INSERT INTO pgbench_tellers VALUES (%s, 1, 0, 'x')", [1000 + number])
                    connection.execute("UPDATE pgbench_tellers SET tid = -tid WHERE tid = %s", [1000 + number])
                    connection.execute("DELETE FROM pgbench_tellers WHERE tid = %s", [-(1000 + number - 20)])
                    stop.wait(0.02)
        except psycopg.Error:
            stop.wait(0.1)
        finally:
            bench.kill()
            bench.wait()
