"""`tidemill up` feeds the topics that its streams read: from the project's files, across kills."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from harness.installation import Installation
from tidemill.flow.stream.facts import ProcessFacts

ORDERS = """
    import tidemill as tm
    from tidemill import live

    shop = tm.Pipeline("shop")
    orders = tm.topic("orders", {"id": "long"}, key="id", source=live.tail("logs/orders.jsonl"))

    @shop.stream(orders, to=tm.topic("copies"))
    def copies(orders):
        return orders.filter(orders["id"] > 0)
"""


def test_what_is_written_to_a_file_comes_once_whatever_is_killed(install: Callable[..., Installation]) -> None:
    shop = install(orders=ORDERS)
    (shop.folder / "logs").mkdir()
    log = shop.folder / "logs" / "orders.jsonl"
    shop.up("--workers", "1")

    def add(*numbers: int) -> None:
        with log.open("a") as stream:
            stream.write("".join(json.dumps({"id": number}) + "\n" for number in numbers))

    def copies() -> list[int]:
        found = json.loads(shop.command("stream", "peek", "copies", "-n", "100", "--json"))["messages"]
        return [json.loads(one["value"])["id"] for one in found]

    def feeder() -> ProcessFacts | None:
        with shop.metadata.read() as tx:
            told = [ProcessFacts.from_json(found) for found in tx.streams.told("source:orders")]
        return next((one for one in told if one.tasks and os.path.exists(f"/proc/{one.pid}")), None)

    add(1, 2)
    shop.wait(lambda: copies() == [1, 2])
    first = shop.wait(feeder)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    add(3)
    shop.wait(lambda: copies() == [1, 2, 3])
    assert shop.stop() == 0
