"""A stream into a database outside, in processes as users start them: killed on the way, and each row is there once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from harness.installation import Installation

Install = Callable[..., Installation]

ORDERS = """
    import tidemill as tm

    p = tm.Pipeline("sales")
    orders = tm.topic("orders", {"id": "long", "amount": "decimal(10,2)"}, key="id")

    @p.stream(orders)
    def kept(orders):
        return orders.to("warehouse", "sales.orders", write="upsert", key="id")
"""


class Warehouse:
    """Looked into when it has changed only: who looks keeps writers out meanwhile, and they wait for seconds then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = 0
        self._not_before = 0.0
        self._seen: list[tuple[int, str]] = []

    def found(self) -> list[tuple[int, str]]:
        stamp = self.path.stat().st_mtime_ns if self.path.exists() else 0
        if stamp != self._stamp and time.monotonic() > self._not_before:
            try:
                with duckdb.connect(str(self.path), read_only=True) as connection:
                    self._seen = connection.execute(
                        "SELECT id, amount::VARCHAR FROM sales.orders ORDER BY id"
                    ).fetchall()
                self._stamp = stamp
            except duckdb.Error:  # it is being written, or has no table yet
                self._not_before = time.monotonic() + 0.5
        return self._seen


def test_rows_arrive_once_though_the_process_is_killed(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", "duckdb:///warehouse.db")
    shop = install(sales=ORDERS)
    warehouse = Warehouse(shop.folder / "warehouse.db")

    def feed(*numbers: int) -> None:
        file = shop.folder / "orders.jsonl"
        file.write_text("".join(json.dumps({"id": n, "amount": f"{n}.50"}) + "\n" for n in numbers))
        shop.command("stream", "feed", "orders", str(file))

    feed(1, 2)
    first = shop.start("stream", "run")
    shop.wait(lambda: warehouse.found() == [(1, "1.50"), (2, "2.50")])
    feed(2, 3)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    feed(4)
    second = shop.start("stream", "run")
    shop.wait(lambda: warehouse.found() == [(1, "1.50"), (2, "2.50"), (3, "3.50"), (4, "4.50")])
    listed = json.loads(shop.command("stream", "show", "sales.kept", "--json"))
    assert "warehouse:sales.orders" in json.dumps(listed)
    second.send_signal(signal.SIGINT)
    assert second.wait(30) == 0
