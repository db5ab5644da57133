"""A scheduler and workers apart, with a broker between them: what a second machine would run."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

from harness.installation import Installation
from tidemill.model.run import RunState

Install = Callable[..., Installation]

TWO = """
    import os
    import tidemill as tm

    @tm.dag(schedule="@daily", start="2026-01-01", end="2026-01-03", catchup=True)
    def two():
        @tm.task
        def numbers():
            print("here")
            return [1, 2]

        @tm.task(queue="heavy")
        def double(x):
            return 2 * x

        double.expand(x=numbers())

    two()
"""


def test_workers_of_a_broker_do_what_schedulers_ask(install: Install, redis_url: str) -> None:
    shop = install(two=TWO)
    with (shop.folder / "tidemill.toml").open("a") as file:
        file.write(f'\n[scheduler]\nbroker = "{redis_url}"\n')
    shop.up()
    worker = shop.start("serve", "worker", "--workers", "2", "--queue", "default", "--queue", "heavy")
    try:
        ended = shop.wait_for_runs("two", 2, 90)
        assert set(ended.values()) == {RunState.SUCCESS}
        first = min(ended)
        with shop.metadata.read() as tx:
            assert tx.xcoms.all(first, "double") == [(0, "2"), (1, "4")]
            done_by = {task.worker for task in tx.runs.tasks(first)}
        assert None not in done_by
        lines = json.loads(shop.command("logs", str(first), "numbers", "--json"))["lines"]
        assert "here" in [line["text"] for line in lines]
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, shop.said()
    assert shop.stop() == 0
