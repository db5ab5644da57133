"""Deliveries of an installation: after each publish, by themselves, and again when the destination is back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from harness.installation import Installation
from tidemill.flow.control import trigger
from tidemill.model.delivery import DeliveryState
from tidemill.wiring.services import system_clock

Install = Callable[..., Installation]

SHOP = """
    import tidemill as tm

    p = tm.Pipeline("shop")

    @p.source
    def orders(interval):
        yield [{"id": 1}, {"id": 2}]

    p.deliver("orders", to="warehouse")
"""


def found(path: Path) -> int:
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            row = connection.execute("SELECT count(*) FROM shop.orders").fetchone()
    except duckdb.Error:  # it is being written, or is not there yet
        return 0
    return 0 if row is None else int(row[0])


def test_what_is_published_is_delivered_and_tried_again(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", "duckdb:///there/warehouse.db")
    shop = install(shop=SHOP.replace("(interval)", "()"))
    shop.up("--workers", "1")

    def known() -> bool:
        with shop.metadata.read() as tx:
            return tx.definitions.pipeline("shop") is not None

    def failing() -> bool:
        with shop.metadata.read() as tx:
            pointers = tx.refs.pointers("main")
            return [one.state(pointers) for one in tx.deliveries.all()] == [DeliveryState.FAILING]

    shop.wait(known)
    trigger(shop.metadata, "shop", system_clock().now())
    shop.ring()
    shop.wait_for_runs("shop", 1)
    shop.wait(failing)
    path = shop.folder / "there" / "warehouse.db"
    path.parent.mkdir()
    shop.wait(lambda: found(path) == 2)
    assert shop.stop() == 0
