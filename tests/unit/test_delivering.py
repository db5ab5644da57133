"""The loop of deliveries: what is due is begun, each once at a time, and what fails is tried again later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

import tidemill as tm
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.authoring import registry
from tidemill.flow.delivering import Deliverer
from tidemill.model.delivery import CatalogMirror, DeliverySpec
from tidemill.model.errors import DefinitionError, SettingsError, UnknownName, Unreachable
from tidemill.model.table import TableName
from tidemill.plan.delivery import Held, position_text, read_position
from tidemill.testing.clock import ManualClock

TABLE = TableName("shop", "orders")
Deliver = Callable[[DeliverySpec, threading.Event], str | None]


@pytest.fixture(autouse=True)
def _no_other_pipelines() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


@pytest.fixture
def specs() -> tuple[DeliverySpec, ...]:
    shop = tm.Pipeline("shop")
    shop.source(lambda: iter(()), name="orders")
    shop.deliver("orders", to="one")
    shop.deliver("orders", to="two", table="public.o", key="id")
    return shop.spec().deliveries or ()


def published(store: SqlMetadata, specs: tuple[DeliverySpec, ...], pointer: str = "v1") -> None:
    with store.write() as tx:
        tx.deliveries.declare("shop", specs)
        before = tx.refs.pointers("main").get(TABLE)
        tx.refs.swap("main", TABLE, before, pointer)


def look(store: SqlMetadata, clock: ManualClock, work: Deliver, times: int = 1) -> None:
    async def all_of_it() -> None:
        deliverer = Deliverer(store, clock, work)
        for _ in range(times):
            await deliverer.look()
            while deliverer.running:
                await asyncio.sleep(0.001)
        await deliverer.close()

    asyncio.run(all_of_it())


def test_what_is_behind_is_begun_and_what_failed_waits(
    store: SqlMetadata, clock: ManualClock, specs: tuple[DeliverySpec, ...]
) -> None:
    begun: list[str] = []

    def work(spec: DeliverySpec, _stopping: threading.Event) -> str | None:
        begun.append(spec.to)
        if spec.to == "two":
            return "it fell over"
        with store.write() as tx:
            tx.deliveries.done(spec, {TABLE: "v1"}, 3, clock.now())
        return None

    look(store, clock, work)
    assert begun == [], "nothing was published"
    published(store, specs)
    look(store, clock, work, times=3)
    assert sorted(begun) == ["one", "two"], "one is done, the other waits"
    with store.read() as tx:
        one, two = tx.deliveries.all("shop")
    assert (one.rows, one.delivered, one.tries) == (3, {TABLE: "v1"}, 0)
    assert (two.error, two.tries, two.next_at) == ("it fell over", 1, clock.now() + timedelta(seconds=10))
    clock.advance(timedelta(seconds=10))
    look(store, clock, work)
    assert begun[2:] == ["two"]
    published(store, specs, "v2")
    look(store, clock, work)
    assert begun[3:] == ["one"], "it moved again; the other one still waits"


def test_a_mirror_is_declared_at_the_first_look_and_behind_whenever_main_is_elsewhere(
    store: SqlMetadata, clock: ManualClock, specs: tuple[DeliverySpec, ...]
) -> None:
    mirror = DeliverySpec("*", "glue", (), mirror=CatalogMirror(("shop.*",), "lake_"))
    published(store, specs[:0])
    begun: list[DeliverySpec] = []
    declared: list[bool] = []

    def declare() -> None:
        declared.append(True)
        if len(declared) == 1:
            raise Unreachable("The database is away.")
        with store.write() as tx:
            tx.deliveries.declare("*", [mirror])

    def work(spec: DeliverySpec, _stopping: threading.Event) -> str | None:
        begun.append(spec)
        with store.write() as tx:
            tx.deliveries.done(spec, {TABLE: "v1"}, 0, clock.now())
        return None

    async def all_of_it() -> None:
        deliverer = Deliverer(store, clock, work, declare=declare)
        for _ in range(4):
            await deliverer.look()
            while deliverer.running:
                await asyncio.sleep(0.001)

    asyncio.run(all_of_it())
    assert (begun, declared) == ([mirror], [True, True]), "once it is there, it is not declared again"
    with store.write() as tx:
        (one,) = tx.deliveries.all()
        assert one.behind({TABLE: "v1", TABLE.input: "x"}) == (), "input tables are not shown"
        assert one.behind({TABLE: "v2"}) == (TABLE,)
        assert one.behind({}) == (TABLE,), "it was dropped"
        assert one.behind({TABLE: "v1", TableName("other", "t"): "v1"}) == ()


def test_one_delivery_is_not_begun_twice_and_ends_when_all_ends(
    store: SqlMetadata, clock: ManualClock, specs: tuple[DeliverySpec, ...]
) -> None:
    published(store, specs[:1])
    begun: list[bool] = []

    def work(_spec: DeliverySpec, stopping: threading.Event) -> str | None:
        begun.append(True)
        assert stopping.wait(30), "it is told to stop"
        return "ended"

    async def all_of_it() -> None:
        deliverer = Deliverer(store, clock, work)
        for _ in range(3):
            await deliverer.look()
        assert deliverer.running == 1
        await deliverer.close()

    asyncio.run(all_of_it())
    assert begun == [True]
    with store.read() as tx:
        assert tx.deliveries.all()[0].tries == 0, "that it was stopped is no failure"


def test_records_belong_to_their_pipeline(store: SqlMetadata, specs: tuple[DeliverySpec, ...]) -> None:
    with store.write() as tx:
        tx.deliveries.declare("shop", specs)
        tx.deliveries.declare("other", [DeliverySpec("other", "one", specs[0].tables)])
        tx.deliveries.declare("shop", specs[:1])
        assert [(one.spec.pipeline, one.spec.to) for one in tx.deliveries.all()] == [("other", "one"), ("shop", "one")]
        assert tx.deliveries.all("shop")[0].spec.as_json() == specs[0].as_json()


def test_a_position_is_read_as_it_was_written() -> None:
    held = {
        TABLE: Held("u", 2**62, {1: 'a"b', 2: "ü"}, "s.t", {"key": ["a"]}),
        TableName("a", "b"): Held("v", None, {}, "x"),
    }
    assert read_position(position_text(held)) == held
    assert read_position(None) == {}


@pytest.mark.parametrize(
    ("how", "error", "told"),
    [
        ({"to": "no name"}, DefinitionError, "not the name of a connection"),
        ({"to": "x", "formt": "csv"}, UnknownName, "format"),
        ({"to": "x", "table": "a.b.c"}, DefinitionError, "cannot name a table"),
        ({"to": "x", "partition": "dy(at)"}, DefinitionError, "partition transform"),
        ({"to": "x", "key": 7}, DefinitionError, "names no columns"),
        ({"to": "x", "format": 7}, DefinitionError, "no text"),
        ({"to": "x", "diststyle": "any"}, UnknownName, "distribution style"),
        ({"to": "x", "diststyle": "even", "distkey": "id"}, SettingsError, "contradict each other"),
        ({"to": "x", "encode": "zstd"}, DefinitionError, "names no columns"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(
    how: dict[str, object], error: type[Exception], told: str
) -> None:
    shop = tm.Pipeline("shop")
    shop.source(lambda: iter(()), name="orders")
    with pytest.raises(error, match=told) as raised:
        shop.deliver("orders", **how)  # type: ignore[arg-type]
    assert "test_delivering.py" in str(raised.value)


def test_tables_that_do_not_exist_views_and_others_are_refused() -> None:
    shop, other = tm.Pipeline("shop"), tm.Pipeline("other")
    orders = shop.source(lambda: iter(()), name="orders")
    with pytest.raises(DefinitionError, match="another pipeline"):
        other.deliver(orders, to="x")
    with pytest.raises(DefinitionError, match="no table"):
        shop.deliver(to="x")
    shop.sql(text="SELECT 1 AS a", name="seen", materialized="view")
    shop.deliver("seen", to="x")
    with pytest.raises(DefinitionError, match="is a view"):
        shop.spec()
    third = tm.Pipeline("third")
    third.deliver("gone", to="x")
    with pytest.raises(UnknownName, match="gone"):
        third.spec()
    fourth = tm.Pipeline("fourth")
    fourth.source(lambda: iter(()), name="orders")
    fourth.deliver("orders", to="x")
    fourth.deliver("orders", to="x", table="again")
    with pytest.raises(DefinitionError, match="once, and under one name"):
        fourth.spec()
