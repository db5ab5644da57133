"""Changes are followed while both sides die: kill -9 of the reader at random moments, crashes of the server.

`TIDEMILL_CDC_SECONDS=60` makes it a long session.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from harness.changing import NAME, followed
from harness.postgres import CannotStart, away, find_binaries, running

SECONDS = float(os.environ.get("TIDEMILL_CDC_SECONDS", "15"))
TABLES = {"pgbench_accounts": "aid", "pgbench_tellers": "tid", "pgbench_branches": "bid"}
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


def _pgbench(url: str, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [find_binaries() / "pgbench", *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _write(url: str, stop: threading.Event) -> None:
    """pgbench, and rows that come and go; both begin again when the server is back."""
    number = 0
    while not stop.is_set():
        bench = _pgbench(url, "-n", "-c", "2", "-R", "150", "-T", "3600")
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


def _run(root: Path, key: str) -> subprocess.Popen[bytes]:
    with (root / "run.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tidemill.cli", "-q", "run", "shop", key], cwd=root, stdout=log, stderr=log
        )


@pytest.mark.postgres
@pytest.mark.timeout(3600)
def test_what_is_here_is_what_is_there_whoever_dies(tmp_path):
    """In the end no row is missing and none too many, in the state and in the log; and no slot but one is left."""
    chance = random.Random(os.environ.get("TIDEMILL_CDC_SEED", "5"))
    try:
        context = running()
        server = context.__enter__()
    except CannotStart as why:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(why))
    stop = threading.Event()
    try:
        with followed(server, tmp_path / "project") as shop:
            assert _pgbench(shop.url, "-i", "-q", "-s", "1").wait() == 0
            shop.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
            root = shop.project.root
            (root / "pipelines").mkdir()
            (root / "tidemill.toml").write_text('[project]\nname = "test"\n', encoding="utf-8")
            names = [*TABLES, "pgbench_history"]
            text = PIPELINE.format(name=NAME, tables=names, slot=shop.slot, keys=TABLES)
            (root / "pipelines/shop.py").write_text(text, encoding="utf-8")
            writer = threading.Thread(target=_write, args=(shop.url, stop))
            writer.start()
            until = time.monotonic() + SECONDS
            batch = kills = crashes = 0
            while time.monotonic() < until:
                run = _run(root, f"step-{batch}")
                try:
                    batch += run.wait(chance.uniform(0.5, 6)) == 0
                except subprocess.TimeoutExpired:
                    if chance.random() < 0.4:
                        crashes += 1
                        with away(server, signal.SIGQUIT):
                            run.kill()
                    else:
                        kills += 1
                        run.kill()
                    run.wait()
            stop.set()
            writer.join()
            shop.execute("SELECT 1")
            # The one that was killed, and one more for what came after its position was fixed.
            for key in (f"step-{batch}", f"step-{batch + 1}"):
                deadline = time.monotonic() + 120
                while _run(root, key).wait() != 0:
                    # A killed reader's session ends when the server next writes to it.
                    assert time.monotonic() < deadline, (root / "run.log").read_text()
            assert kills + crashes > 0
            for table in TABLES:
                columns = {"pgbench_accounts": "aid, abalance", "pgbench_tellers": "tid, tbalance"}
                assert shop.difference(table, columns.get(table, "bid, bbalance")) == (0, 0), (kills, crashes)
            log = "shop.changes__pgbench_history"
            assert shop.difference("pgbench_history", "tid, bid, aid, delta", of=log) == (0, 0)
            slots = shop.rows("SELECT slot_name FROM pg_replication_slots")
            assert slots == [(shop.slot,)]
    finally:
        stop.set()
        context.__exit__(None, None, None)
