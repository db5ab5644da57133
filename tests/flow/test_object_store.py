"""Pipelines with lake and archive in an object store: every write mode, queries, reverts, compaction, clean-up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from harness import crashing
from harness.commands import CommandLine
from harness.objectstore import FaultyProxy, ObjectStore, Request, proxying, settings_in
from harness.project import Project
from harness.s3keys import KEY, SECRET
from tidemill.adapters.polars.errors import running
from tidemill.flow.branches import revert_batch
from tidemill.flow.compact import compact_tables
from tidemill.model.branch import MAIN
from tidemill.model.errors import Unreachable
from tidemill.wiring.storage import Reach

pytestmark = pytest.mark.usefixtures("object_keys")
DAYS = crashing.DAYS[:3]


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    return object_store.bucket()


@pytest.fixture
def proxy(object_store: ObjectStore) -> Iterator[FaultyProxy]:
    with proxying(object_store.endpoint) as made:
        yield made


@pytest.fixture
def project(tmp_path: Path, object_store: ObjectStore, proxy: FaultyProxy, bucket: str) -> Iterator[Project]:
    (tmp_path / "tidemill.toml").write_text(settings_in(object_store, bucket, proxy.endpoint))
    made = Project(tmp_path)
    yield made
    made.close()


def test_every_write_mode_over_days_out_of_order_and_again(
    project: Project, object_store: ObjectStore, bucket: str
) -> None:
    crashing.write_feeds(project.root, DAYS)
    p = crashing.declare(project)
    for day in (DAYS[0], DAYS[2], DAYS[1], DAYS[0]):
        assert project.run(p, day).ok
    crashing.check_whole(project, DAYS)
    crashing.check_no_orphans(project)
    crashing.check_whole(project, DAYS)
    keys = object_store.keys(bucket)
    assert any(key.startswith("wide/lake/shop/") for key in keys)
    assert any(key.startswith("wide/archive/shop/orders/dt=2026-01-01/") for key in keys)
    assert not list(project.root.rglob("*.parquet"))


def test_a_revert_and_a_compaction(project: Project) -> None:
    crashing.write_feeds(project.root, DAYS)
    p = crashing.declare(project)
    for day in DAYS:
        assert project.run(p, day).ok
    compact_tables(project.services, keep=timedelta(0))
    crashing.check_whole(project, DAYS)
    with project.services.metadata.read() as tx:
        last = tx.batches.recent(limit=1)[0]
    revert_batch(project.services, last.id)
    crashing.check_whole(project, DAYS[:2])
    crashing.check_no_orphans(project)
    crashing.check_whole(project, DAYS[:2])


def test_a_store_that_fails_now_and_then_is_not_noticed(project: Project, proxy: FaultyProxy) -> None:
    """Each fifth request fails: by an error, without an answer, by half of one, or by an answer that is lost."""
    crashing.write_feeds(project.root, DAYS[:1])
    p = crashing.declare(project)
    count = [0]
    ways = ("500", "503", "drop", "lost", "done", "cut")

    def fault(request: Request) -> str | None:
        count[0] += 1
        if count[0] % 5:
            return None
        what = ways[count[0] // 5 % len(ways)]
        return what if what != "cut" or request.method == "GET" else "500"

    proxy.fault = fault
    assert project.run(p, DAYS[0]).ok
    crashing.check_whole(project, DAYS[:1])
    assert count[0] > 50


def test_queries_and_frames_ask_for_ranges(project: Project, proxy: FaultyProxy) -> None:
    """A query of one column of a wide table does not fetch the others."""
    p = project.pipeline("wide")

    @p.source
    def rows() -> Iterator[dict[str, object]]:
        for i in range(60_000):
            yield {"id": i, "text": hashlib.sha256(str(i).encode()).hexdigest()}

    assert project.run(p, "2026-01-01").ok
    with project.services.metadata.read() as tx:
        (name, pointer), *_ = tx.refs.pointers(MAIN).items()
    scan = project.services.catalog.scan(name, pointer)
    size = sum(file.bytes for file in scan.files)
    assert size > 1_000_000

    asked: list[int] = []

    def note(request: Request) -> None:
        if request.method == "GET" and ".parquet" in request.path:
            start, _, end = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
            asked.append(min(int(end or size), size) - int(start) if start else int(end))

    proxy.fault = note
    assert project.rows("select sum(id) as s from wide.rows") == [{"s": 60_000 * 59_999 // 2}]
    assert asked
    assert sum(asked) < size / 2
    asked.clear()
    frame = Reach.of(project.services.lake).scanner().lazy(scan)
    assert frame.select("id").sum().collect(engine="streaming").item() == 60_000 * 59_999 // 2
    assert asked
    assert sum(asked) < size / 2


def test_a_store_that_is_away_while_frames_are_run_is_unreachable(project: Project, proxy: FaultyProxy) -> None:
    crashing.write_feeds(project.root, DAYS[:1])
    p = crashing.declare(project)
    assert project.run(p, DAYS[0]).ok
    with project.services.metadata.read() as tx:
        name, pointer = next((n, p) for n, p in tx.refs.pointers(MAIN).items() if n.table == "facts")
    scan = project.services.catalog.scan(name, pointer)
    lazy = Reach.of(project.services.lake).scanner().lazy(scan)
    proxy.fault = lambda request: "403" if ".parquet" in request.path else None
    with pytest.raises(Unreachable, match="object store"), running(()):
        lazy.collect(engine="streaming")


def test_a_store_that_is_away_is_told_by_queries_too(project: Project, proxy: FaultyProxy, tmp_path: Path) -> None:
    crashing.write_feeds(project.root, DAYS[:1])
    p = crashing.declare(project)
    assert project.run(p, DAYS[0]).ok
    proxy.fault = lambda _request: "403"
    project.close()
    again = Project(tmp_path)
    with pytest.raises(Exception, match="refuses") as caught:
        again.rows("select * from shop.orders")
    assert SECRET not in str(caught.value)
    again.close()


def test_the_command_line(
    tmp_path: Path, object_store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run, query, replay, revert, vacuum, doctor; the keys by a connection, and nowhere in what is told."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("TIDEMILL_CONN_STORE", f"s3://{KEY}:{SECRET}@")
    cli = CommandLine(tmp_path)
    cli.write("tidemill.toml", settings_in(object_store, bucket) + 'connection = "store"\n')
    cli.write("feeds/2026-01-01.csv", "id,v\n1,a\n2,b\n")
    cli.write("feeds/2026-01-02.csv", "id,v\n2,c\n")
    cli.write(
        "pipelines/shop.py",
        """
        import tidemill as tm

        shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")
        orders = shop.files("feeds/{{ ds }}.csv")


        @shop.table(key="id", write="upsert")
        def latest(orders):
            return orders


        latest.expect(tm.col("id") > 0)
        """,
    )
    told = []

    def run(*arguments: str) -> str:
        done = cli(*arguments)
        told.append(done.stdout + done.stderr)
        assert done.exit_code == 0, done.stdout + done.stderr
        return done.stdout

    run("run", "shop", "2026-01-01..2026-01-02")
    assert cli("query", "--json", "select id, v from latest order by id").object["rows"] == [
        {"id": 1, "v": "a"},
        {"id": 2, "v": "c"},
    ]
    run("replay", "2")
    run("data", "ls")
    run("doctor")
    run("branch", "revert", "2")
    assert cli("query", "--json", "select id, v from latest order by id").object["rows"] == [
        {"id": 1, "v": "a"},
        {"id": 2, "v": "b"},
    ]
    run("data", "vacuum", "--compact")
    assert not any(SECRET in text or KEY in text for text in told)


def test_a_bucket_that_is_missing_is_one_line(tmp_path: Path, object_store: ObjectStore) -> None:
    cli = CommandLine(tmp_path)
    assert cli("init").exit_code == 0
    cli.write("tidemill.toml", settings_in(object_store, "nobody-has-this"))
    done = cli("run", "shop", "2026-01-01")
    told = done.stdout + done.stderr
    assert done.exit_code == 1
    assert 'There is no bucket "nobody-has-this".' in told
    assert "Traceback" not in told
