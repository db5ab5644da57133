"""The database goes away under a running installation, or is locked for long: what runs ends as it would have."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import postgres as servers
from harness.installation import Installation
from tidemill.flow.control import trigger
from tidemill.model.run import RUN_ENDS, RunState
from tidemill.wiring.services import system_clock

Install = Callable[..., Installation]

STEPS = """
    import pathlib, time
    import tidemill as tm

    @tm.dag()
    def steps():
        @tm.task
        def first():
            pathlib.Path("FOLDER", "began").touch()
            while not pathlib.Path("FOLDER", "go").exists():
                time.sleep(0.02)
            return 1

        @tm.task
        def second(x):
            return x + 1

        second(first())

    steps()
"""


def begin(shop: Installation) -> int:
    def known() -> bool:
        with shop.metadata.read() as tx:
            return tx.definitions.pipeline("steps") is not None

    shop.wait(known)
    run = trigger(shop.metadata, "steps", system_clock().now())
    shop.ring()
    shop.wait((shop.folder / "began").exists)
    return run.id


@pytest.mark.postgres
def test_a_server_that_is_restarted_costs_no_run(install: Install, postgres: object) -> None:
    """`postgres` only says whether there is one: this test has a server of its own to restart."""
    with servers.running() as server:
        shop = install(server.new_database())
        shop.write("steps", STEPS.replace("FOLDER", str(shop.folder)))
        shop.up("--workers", "2")
        run = begin(shop)
        with servers.away(server):
            (shop.folder / "go").touch()  # the task ends while nobody can write it down
            shop.wait(lambda: "waits" in shop.said() or "does not answer" in shop.said())

        def ended() -> bool:
            try:
                with shop.metadata.read() as tx:
                    found = tx.runs.get(run)
                    return found is not None and found.state in RUN_ENDS
            except Exception:
                return False

        shop.wait(ended)
        with shop.metadata.read() as tx:
            assert tx.runs.states([run]) == {run: RunState.SUCCESS}
            assert tx.xcoms.get(run, "second") == "2"
        assert shop.stop() == 0


def test_a_database_that_is_locked_for_long_delays_and_loses_nothing(install: Install) -> None:
    shop = install()
    shop.write("steps", STEPS.replace("FOLDER", str(shop.folder)))
    shop.up("--workers", "2")
    run = begin(shop)
    shop.wait_for_task(run, "first", "running")
    lock = sqlite3.connect(Path(shop.folder, ".tidemill", "tidemill.db"), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    (shop.folder / "go").touch()
    tries = json.loads(shop.command("runs", "show", str(run), "--json"))["tasks"]
    assert [task["state"] for task in tries] == ["running"], "readers are not in the way"
    lock.execute("COMMIT")
    lock.close()
    assert shop.wait_for_runs("steps", 1) == {run: RunState.SUCCESS}
    assert shop.stop() == 0
