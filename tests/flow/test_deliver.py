"""Deliveries: a destination holds what `main` holds, whatever happened to either since the last time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.delivering import Watched, deliver_to, recorded
from harness.examples import few
from harness.landing import Landing, duckdb_landing, files_landing, postgres_landing
from harness.postgres import Postgres
from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.branches import revert_batch
from tidemill.flow.compact import compact_tables
from tidemill.flow.maintain import vacuum
from tidemill.flow.query import query, reading
from tidemill.model.delivery import LONGEST_WAIT, DeliveryState
from tidemill.model.errors import Refused, SettingsError, Unreachable

TABLES = ("orders", "latest", "places", "totals")
NOW = timedelta(0)


class Shop:
    """A pipeline with a table of each write mode, whose feed the test says.

    Args:
        root: of its project.
        landing: where it delivers to.
    """

    def __init__(self, root: Path, landing: Landing) -> None:
        self.project = Project(root)
        self.landing = landing
        self.feed: list[dict[str, Any]] = []
        self.there = Watched(landing.opened())
        self.pipeline = self.declared()

    def declared(self, **options: Any) -> Pipeline:
        p = self.project.pipeline("shop")

        @p.source(columns={"id": "long", "place": "string"})
        def orders(interval: Any) -> Iterator[Any]:
            yield self.feed

        @p.table(key="id", write="upsert")
        def latest(orders: Any) -> Any:
            return orders

        @p.table(key="id", write="history")
        def places(orders: Any) -> Any:
            return orders.select("id", "place")

        @p.table(write="replace")
        def totals(orders: Any) -> Any:
            return orders.select("place")

        p.deliver(*TABLES, to="there", **options)
        return p

    def run(self, day: int, *rows: tuple[int, str], **more: Any) -> None:
        self.feed = [{"id": id_, "place": place, **more} for id_, place in rows]
        assert self.project.run(self.pipeline, f"2026-01-0{day}", refetch=True).ok

    def deliver(self) -> Any:
        return deliver_to(self.project, self.pipeline, self.there)

    def delivered(self) -> Any:
        report = self.deliver()
        if report.error is not None:
            raise report.error
        self.check()
        return report

    def check(self) -> None:
        """The destination holds what the lake holds, row by row, with the batches that they are of."""
        published = self.project.tables()
        for name in TABLES:
            if f"shop.{name}" not in published:
                continue
            with reading(self.project.services) as seen:
                with query(self.project.services, f"SELECT * FROM shop.{name}", seen) as reader:
                    lake = reader.read_all()
            columns = [c for c in lake.column_names if c != "_loaded_at"]
            wanted = [tuple(row.values()) for row in lake.select(columns).to_pylist()]
            listed = ", ".join(f'"{c}"' for c in columns)
            found = self.landing.ask(f"SELECT {listed} FROM shop.{name}")
            assert sorted(found, key=repr) == sorted(wanted, key=repr), name


@pytest.fixture(params=["duckdb", "files", pytest.param("postgresql", marks=pytest.mark.postgres)])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "duckdb":
        made = Shop(tmp_path / "project", duckdb_landing(tmp_path / "there.db"))
    elif request.param == "files":
        made = Shop(tmp_path / "project", files_landing(tmp_path / "there"))
    else:
        server: Postgres = request.getfixturevalue("postgres")
        made = Shop(tmp_path / "project", postgres_landing(server.new_database()))
    yield made
    made.project.close()


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "duckdb":
        made = Shop(tmp_path / "project", duckdb_landing(tmp_path / "there.db"))
    else:
        made = Shop(tmp_path / "project", postgres_landing(request.getfixturevalue("postgres").new_database()))
    yield made
    made.project.close()


@pytest.fixture
def duck(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "project", duckdb_landing(tmp_path / "there.db"))
    yield made
    made.project.close()


def test_a_mirror_follows_runs_reruns_and_reverts_and_sends_what_has_changed(shop: Shop) -> None:
    shop.run(1, (1, "a"), (2, "b"))
    assert shop.delivered().rows == 2 + 2 + 2 + 2
    assert recorded(shop.project)[1] is DeliveryState.DELIVERED
    shop.run(2, (2, "c"), (3, "d"))
    assert recorded(shop.project)[1] is DeliveryState.PENDING
    shop.delivered()
    how = shop.there.last()
    assert how["shop.orders"] == ("append", ()), "a new batch: nothing is removed"
    keyed = "upsert" if shop.there.by_key else "replace"
    assert (how["shop.latest"][0], how["shop.places"][0], how["shop.totals"][0]) == (keyed, keyed, "replace")
    shop.run(1, (1, "z"))
    shop.delivered()
    assert shop.there.last()["shop.orders"] == ("append", (1,)), "the batch's rows go, its new ones come"
    revert_batch(shop.project.services, 2)
    shop.delivered()
    assert shop.there.last()["shop.orders"] == ("append", (2,))
    loads = len(shop.there.loads)
    assert shop.delivered().rows == 0
    assert len(shop.there.loads) == loads, "nothing has moved, so nothing is loaded"


def test_several_publishes_are_delivered_by_one_load_and_columns_that_came_are_there(shop: Shop) -> None:
    shop.run(1, (1, "a"))
    shop.delivered()
    shop.run(2, (2, "b"), amount=5)
    shop.run(3, (1, "c"), amount=7)
    shop.delivered()
    assert len(shop.there.loads) == 2
    assert shop.landing.ask("SELECT id, amount FROM shop.orders ORDER BY _batch_id") == [(1, None), (2, 5), (1, 7)]


def test_compaction_sends_nothing(duck: Shop) -> None:
    for day in (1, 2, 3):
        duck.run(day, (day, "a"))
    duck.run(1, (1, "b"), (4, "c"))
    duck.delivered()
    services = duck.project.services
    assert compact_tables(services, keep=timedelta(days=7)), "there was something to join"
    assert recorded(duck.project)[1] is DeliveryState.PENDING, "the lake has moved"
    assert duck.delivered().rows == 0


def test_a_version_that_was_let_go_is_replaced_by_all_rows(duck: Shop) -> None:
    duck.run(1, (1, "a"))
    duck.delivered()
    for day in (2, 3):
        duck.run(day, (day, "b"))
    compact_tables(duck.project.services, keep=NOW)
    vacuum(duck.project.services, grace=NOW, keep=NOW)
    duck.delivered()


def test_a_mirrored_table_that_somebody_dropped_is_made_again(database: Shop) -> None:
    database.run(1, (1, "a"))
    database.delivered()
    database.landing.ask("DROP TABLE shop.orders")
    database.run(2, (2, "b"))
    database.delivered()


def test_rows_of_others_are_not_touched(database: Shop) -> None:
    shop = database
    shop.landing.ask("CREATE SCHEMA shop")
    shop.landing.ask("CREATE TABLE shop.latest (id bigint)")
    shop.landing.ask("INSERT INTO shop.latest VALUES (7)")
    shop.run(1, (1, "a"))
    report = shop.deliver()
    assert isinstance(report.error, Refused)
    assert "rows that are not of this delivery" in str(report.error)
    assert shop.landing.ask("SELECT * FROM shop.latest") == [(7,)]
    assert recorded(shop.project)[1] is DeliveryState.FAILING
    shop.landing.ask("DELETE FROM shop.latest")
    shop.delivered()


def test_a_failed_delivery_is_on_record_and_waits_ever_longer(duck: Shop) -> None:
    duck.run(1, (1, "a"))

    def away() -> None:
        raise Unreachable("It is away.")

    duck.there.before = away
    waits = []
    for tries in range(1, 12):
        now = duck.project.services.clock.now()
        report = duck.deliver()
        one, state = recorded(duck.project)
        assert (report.tries, one.tries, state) == (tries, tries, DeliveryState.FAILING)
        assert one.error == "It is away."
        assert one.next_at is not None
        waits.append(round((one.next_at - now).total_seconds()))
        assert not one.is_due({}, now)
    assert waits[:4] == [10, 20, 40, 80]
    assert waits[-1] == LONGEST_WAIT.total_seconds()
    duck.there.before = lambda: None
    duck.delivered()
    one, state = recorded(duck.project)
    assert (one.tries, one.error, one.next_at, state) == (0, None, None, DeliveryState.DELIVERED)


def test_two_who_deliver_at_once_deliver_once(duck: Shop) -> None:
    duck.run(1, (1, "a"))
    other = Watched(duck.landing.opened())
    done = []

    def meanwhile() -> None:
        duck.there.before = lambda: None
        done.append(deliver_to(duck.project, duck.pipeline, other))

    duck.there.before = meanwhile
    assert duck.delivered().rows == 0, "the other was first: a second look finds nothing to do"
    assert done[0].rows == 4


def test_what_is_no_longer_declared_is_forgotten_and_what_is_asked_otherwise_is_behind(duck: Shop) -> None:
    duck.run(1, (1, "a"))
    duck.delivered()
    duck.pipeline = duck.declared()
    duck.pipeline.deliver("orders", to="elsewhere")
    duck.run(2, (2, "b"))
    with duck.project.services.metadata.read() as tx:
        assert [one.spec.to for one in tx.deliveries.all()] == ["elsewhere", "there"]
    duck.pipeline = duck.declared()
    duck.run(3, (3, "c"))
    duck.delivered()
    assert recorded(duck.project)[0].spec.to == "there"


STEPS = st.one_of(
    st.tuples(
        st.just("run"), st.integers(1, 3), st.lists(st.tuples(st.integers(1, 4), st.sampled_from("ab")), max_size=3)
    ),
    st.tuples(st.just("revert"), st.integers(1, 3)),
    st.sampled_from([("deliver",), ("dies before",), ("dies after",), ("compact",), ("vacuum",), ("dropped",)]),
)


@settings(max_examples=few(48), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=2, max_size=7))
def test_whatever_happens_the_destination_comes_to_hold_what_the_lake_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("mirror")
    shop = Shop(folder / "project", duckdb_landing(folder / "there.db"))
    services = shop.project.services

    def dies() -> None:
        raise Unreachable("It is away.")

    for number, (step, *how) in enumerate(steps):
        if step == "run":
            unique = dict(how[1])
            shop.run(how[0], *unique.items())
        elif step == "revert":
            with services.metadata.read() as tx:
                known = {b.id for b in tx.batches.recent()}
            if how[0] in known:
                try:
                    revert_batch(services, how[0])
                except Refused:
                    continue  # it is reverted already
        elif step == "compact":
            compact_tables(services, keep=NOW)
        elif step == "vacuum":
            vacuum(services, grace=NOW, keep=NOW)
        elif step == "dropped":
            if (folder / "there.db").exists():
                shop.landing.ask("DROP TABLE IF EXISTS shop.latest")
                # That a table is gone is found out when something of it is to be sent.
                shop.run(3, (9, f"after drop {number}"))
        elif step == "deliver":
            shop.delivered()
        else:
            shop.there.before, shop.there.after = (dies, lambda: None) if "before" in step else (lambda: None, dies)
            assert isinstance(shop.deliver().error, Unreachable | None)
            shop.there.before = shop.there.after = lambda: None
    shop.delivered()
    shop.project.close()


def test_a_destination_that_cannot_be_opened_is_on_record_without_its_password(duck: Shop) -> None:
    from tidemill.flow.deliver import deliver
    from tidemill.model.masking import Masker

    duck.run(1, (1, "a"))

    def refused(_name: str) -> Any:
        raise SettingsError("no login with s3cr3t-password")

    (spec,) = duck.pipeline.spec().deliveries or ()
    deliver(duck.project.services, spec, refused, Masker(["s3cr3t-password"]).mask)
    assert recorded(duck.project)[0].error == "no login with ***"
