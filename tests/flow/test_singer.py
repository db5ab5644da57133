"""Whole runs of pipelines whose feeds are streams of a Singer tap."""

from __future__ import annotations

import contextlib
import gzip
import json
import signal
import subprocess
import sys

import pytest

from harness.project import Project
from harness.taps import WrittenTap, activate, entry, record, schema, state
from tidemill import sources
from tidemill.adapters.singer import process
from tidemill.flow.branches import revert_batch

ORDERS = {"id": "integer", "total": "number", "seen": {"type": "string", "format": "date-time"}}


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.fixture
def tap(tmp_path):
    return WrittenTap(tmp_path, [entry("orders", ORDERS), entry("items", ["item"], [])])


def declared(project, tap, select=("orders", "items"), **options):
    pipeline = project.pipeline("shop")
    for each in sources.singer(tap.program, select=list(select), **options):
        pipeline.source(each)
    return pipeline


def test_one_run_of_the_tap_fills_a_table_for_each_stream(project, tap):
    """Two streams, one process: rows, types and the state, which the next run is given."""
    tap.will(
        schema("orders", ORDERS, ["id"]),
        record("orders", id=1, total=1, seen="2026-01-01T10:00:00Z"),
        schema("items", {"item": "string"}),
        record("items", item="nail"),
        record("orders", id=2, total=2.5, seen="2026-01-01T11:00:00+01:00"),
        state({"bookmarks": {"orders": 2}}),
    )
    tap.will(record("orders", id=2, total=3), record("items", item="saw"), state({"bookmarks": {"orders": 3}}))
    shop = declared(project, tap, key={"orders": "id"})
    report = project.run(shop, "2026-01-01")
    assert report.ok, report
    assert project.rows("select id, total, seen::varchar as seen from shop.orders order by id") == [
        {"id": 1, "total": 1.0, "seen": "2026-01-01 10:00:00+00"},
        {"id": 2, "total": 2.5, "seen": "2026-01-01 10:00:00+00"},
    ]
    assert project.run(shop, "2026-01-02").ok
    assert project.rows("select id, total from shop.orders order by id") == [
        {"id": 1, "total": 1.0}, {"id": 2, "total": 3.0},
    ]  # fmt: skip
    assert project.rows("select item from shop.items order by item") == [{"item": "nail"}, {"item": "saw"}]
    first, second = tap.calls
    assert "state" not in first
    assert second["state"] == {"bookmarks": {"orders": 2}}
    selected = {s["tap_stream_id"]: s["metadata"][0]["metadata"]["selected"] for s in first["catalog"]["streams"]}
    assert selected == {"orders": True, "items": True}


def test_a_replay_needs_no_tap(project, tap):
    """Loading reads the archive only: the tap may be gone."""
    tap.will(schema("orders", ORDERS, ["id"]), record("orders", id=1), state(1))
    shop = declared(project, tap, ["orders"])
    assert project.run(shop, "2026-01-01").ok
    (tap.folder / "tap_shop.py").unlink()
    assert project.run(shop, "2026-01-01").ok
    assert project.rows("select id from shop.orders") == [{"id": 1}]


def test_a_tap_that_dies_leaves_nothing_and_begins_again(project, tap):
    """Exit code 3 after a STATE: the next try is given the state of the last batch, and no row is there twice."""
    tap.will(record("orders", id=1), state("a"))
    tap.will(record("orders", id=2), state("b"), record("orders", id=3), "@stderr no more: hunter2", "@exit 3")
    tap.will(record("orders", id=2), record("orders", id=3), state("c"))
    shop = declared(project, tap, ["orders"], config={"password": "hunter2"})
    assert project.run(shop, "2026-01-01").ok
    failed = project.run(shop, "2026-01-02")
    assert "ended with exit code 3" in str(failed.error)
    assert "no more: ***" in str(failed.error)
    assert project.rows("select id from shop.orders") == [{"id": 1}]
    assert project.run(shop, "2026-01-02").ok
    assert [call.get("state") for call in tap.calls] == [None, "a", "a"]
    assert project.rows("select id from shop.orders order by id") == [{"id": 1}, {"id": 2}, {"id": 3}]


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_silent_tap_is_ended(project, tap, stubborn, monkeypatch):
    """Neither a byte nor an end: an error that says so, also where it does not listen to TERM."""
    monkeypatch.setattr(process, "GRACE", 0.2)
    tap.will(record("orders", id=1), "@stubborn" if stubborn else "", "@stderr waiting", "@silent")
    shop = declared(project, tap, ["orders"], quiet_after="1s")
    failed = project.run(shop, "2026-01-01")
    assert "has said nothing for 1 s and was ended" in str(failed.error)


def test_lines_that_are_no_messages_go_to_quarantine(project, tap):
    """Prints, broken records and records that are no objects: by the stream that they name, or the first."""
    tap.will(
        "\N{BYTE ORDER MARK}" + schema("items", {"item": "string"}),
        "Connecting to the shop ...",
        record("items", item="nail"),
        '{"type": "RECORD", "stream": "items", "record": {"item": "half',
        '{"type": "RECORD", "stream": "items", "record": [1]}',
        b'\xff\xfe{"type": "RECORD"}',
        record("items", item="saw"),
    )
    shop = declared(project, tap)
    report = project.run(shop, "2026-01-01")
    assert report.ok, report.error
    assert project.rows("select item from shop.items") == [{"item": "nail"}, {"item": "saw"}]
    assert [row["raw"] for row in project.rows("select raw from shop.items__quarantine")] == [
        '{"type": "RECORD", "stream": "items", "record": [1]}'
    ]
    assert [row["raw"][:24] for row in project.rows("select raw from shop.orders__quarantine order by raw")] == [
        "Connecting to the shop .", '\\xff\\xfe{"type": "RECORD', '{"type": "RECORD", "stre',
    ]  # fmt: skip


def test_too_much_garbage_is_an_error_with_the_line(project, tap):
    """A bound on lines that are no messages; the error shows one."""
    tap.will(*["hello world"] * 11)
    failed = project.run(declared(project, tap, ["items"], most_refused=10), "2026-01-01")
    assert "more than 10 lines that are no messages, such as: 'hello world'" in str(failed.error)


def test_a_line_without_end_is_an_error(project, tap):
    """A line is bounded, so that memory is."""
    tap.will("@unended " + "x" * 200_000)
    failed = project.run(declared(project, tap, ["items"], largest=100_000), "2026-01-01")
    assert "a line of more than 100,000 bytes" in str(failed.error)


def test_a_stream_that_is_taken_later_begins_with_the_state_of_the_others(project, tap):
    """The tap's state is one: it knows nothing of the new stream yet, which therefore comes whole."""
    tap.will(record("orders", id=1), state({"orders": 1}))
    tap.will(record("orders", id=2), record("items", item="nail"), state({"orders": 2, "items": 1}))
    tap.will(state({"orders": 2, "items": 1}))
    assert project.run(declared(project, tap, ["orders"]), "2026-01-01").ok
    both = declared(project, tap, ["items", "orders"])
    assert project.run(both, "2026-01-02").ok
    assert project.run(both, "2026-01-03").ok
    assert [call.get("state") for call in tap.calls] == [None, {"orders": 1}, {"orders": 2, "items": 1}]
    assert project.run(both, "2026-01-01").ok  # which has nothing archived of the new stream
    assert project.rows("select count(*) as n from shop.orders") == [{"n": 2}]
    assert project.rows("select count(*) as n from shop.items") == [{"n": 1}]


def test_what_no_feed_takes_is_archived(project, tap):
    """A record of a stream that nobody asked for is not loaded, and not lost."""
    tap.will(record("orders", id=1), record("visits", id=7))
    shop = declared(project, tap, ["orders"])
    report = project.run(shop, "2026-01-01")
    assert report.ok
    with project.services.metadata.read() as tx:
        manifest = tx.archive.get(report.batch.id, "orders")
    assert [part.name for part in manifest.parts] == ["rows-000001.jsonl.zst", "messages-000002.jsonl.zst"]


def test_schemas_that_change_within_a_run(project, tap):
    """What holds both is the column's type; a new column is there."""
    tap.will(
        schema("orders", {"id": "integer", "total": "integer"}),
        record("orders", id=1, total=1),
        schema("orders", {"id": "integer", "total": "number", "note": "string"}),
        record("orders", id=2, total=1.5, note="x"),
        schema("orders", {"id": "integer", "total": "number", "empty": "string"}),
    )
    shop = declared(project, tap, ["orders"])
    assert project.run(shop, "2026-01-01").ok
    assert project.rows("select id, total, note, empty from shop.orders order by id") == [
        {"id": 1, "total": 1.0, "note": None, "empty": None},
        {"id": 2, "total": 1.5, "note": "x", "empty": None},
    ]


def test_a_table_that_comes_whole_each_time_is_replaced(project, tap):
    """FULL_TABLE in a kept catalog."""
    whole = entry("orders", **{"replication-method": "FULL_TABLE"})
    (tap.folder / "kept.json").write_text(json.dumps({"streams": [whole]}))
    tap.will(record("orders", id=1), record("orders", id=2))
    tap.will(record("orders", id=2))
    shop = project.pipeline("shop")
    (one,) = sources.singer(tap.program, catalog=str(tap.folder / "kept.json"))
    shop.source(one)
    assert project.run(shop, "2026-01-01").ok
    assert project.run(shop, "2026-01-02").ok
    assert project.rows("select id from shop.orders") == [{"id": 2}]


@pytest.mark.parametrize("write", ["upsert", "append"])
def test_rows_of_older_versions_end_with_the_publish(project, tap, write):
    """A tap that sends whole tables: what it no longer sends goes, in replays too, and a failed run ends nothing."""
    tap.will(activate("orders", 1), record("orders", 1, id=1), record("orders", 1, id=2), activate("orders", 1))
    tap.will(record("orders", 2, id=2), activate("orders", 2), "@exit 1")
    tap.will(record("orders", 2, id=8), record("orders", 3, id=2), record("orders", 3, id=3), activate("orders", 3))
    tap.will(record("orders", 4, id=9), record("orders", id=4))
    options = {"key": {"orders": "id"}} if write == "upsert" else {}
    shop = declared(project, tap, ["orders"], write=write, **options)
    seen = "select id, _sdc_table_version as v from shop.orders order by id"
    assert project.run(shop, "2026-01-01").ok
    first = [{"id": 1, "v": 1}, {"id": 2, "v": 1}]
    assert project.rows(seen) == first
    assert not project.run(shop, "2026-01-02").ok
    assert project.rows(seen) == first
    second = project.run(shop, "2026-01-02")
    assert second.ok, second.error
    active = [{"id": 2, "v": 3}, {"id": 3, "v": 3}]
    assert project.rows(seen) == active
    assert project.run(shop, "2026-01-03").ok  # begins another version, which counts beside it until one is activated
    begun = [*active, {"id": 4, "v": None}, {"id": 9, "v": 4}]
    assert project.rows(seen) == begun
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        assert project.run(shop, day).ok
        assert project.rows(seen) == begun
    revert_batch(project.services, second.batch.id)
    if write == "append":  # what a batch of an appended table has ended comes back by a replay
        assert project.rows(seen) == begun[2:]
        assert project.run(shop, "2026-01-01").ok
    assert project.rows(seen) == [*first, *begun[2:]]


@pytest.mark.parametrize("write", ["upsert", "append"])
def test_rows_of_older_versions_are_marked_where_they_stay(project, tap, write):
    """With the time of the batch that ended them first, in replays too; a revert of it takes its marks away."""
    tap.will(record("orders", 1, id=1), record("orders", 1, id=2), activate("orders", 1))
    tap.will(record("orders", 2, id=8), record("orders", 3, id=2), activate("orders", 3))
    tap.will(record("orders", 4, id=2), record("orders", 4, id=3), activate("orders", 4))
    tap.will(record("orders", id=9))
    options = {"key": {"orders": "id"}} if write == "upsert" else {}
    shop = declared(project, tap, ["orders"], write=write, ended="mark", **options)
    seen = "select id, _sdc_table_version as v, _sdc_deleted_at as gone from shop.orders order by id, v"
    assert project.run(shop, "2026-01-01").ok
    assert [row["gone"] for row in project.rows(seen)] == [None, None]
    second = project.run(shop, "2026-01-02")
    assert second.ok, second.error
    third = project.run(shop, "2026-01-03")
    with project.services.metadata.read() as tx:
        at, later = (tx.archive.get(one.batch.id, "orders").extracted_at for one in (second, third))
    assert project.run(shop, "2026-01-04").ok
    live = [{"id": 2, "v": 4, "gone": None}, {"id": 3, "v": 4, "gone": None}, {"id": 9, "v": None, "gone": None}]
    gone = [{"id": 1, "v": 1, "gone": at}]
    if write == "append":
        gone += [{"id": 2, "v": 1, "gone": at}, {"id": 2, "v": 3, "gone": later}]
    everything = sorted([*gone, *live], key=lambda row: (row["id"], row["v"] or 99))
    assert project.rows(seen) == everything
    for day in ("2026-01-01", "2026-01-03", "2026-01-02"):
        assert project.run(shop, day).ok
        assert project.rows(seen) == everything
    revert_batch(project.services, second.batch.id)  # rows of the first batch were ended by the third
    left = [row | {"gone": row["gone"] and later} for row in everything if row["v"] != 3]
    assert project.rows(seen) == left
    revert_batch(project.services, third.batch.id)
    first = [{"id": 1, "v": 1, "gone": None}, {"id": 2, "v": 1, "gone": None}]
    assert project.rows(seen) == [*first, live[-1]]


@pytest.mark.parametrize("ended", ["delete", "mark"])
@pytest.mark.parametrize("write", ["upsert", "append"])
def test_rows_of_a_version_that_is_activated_again_come_only_where_they_are_sent_again(project, tap, write, ended):
    """What another version has ended stays ended, in replays too; where that one is reverted nothing had ended it."""
    tap.will(record("orders", 1, id=1), record("orders", 1, id=2), activate("orders", 1))
    tap.will(record("orders", 2, id=2), record("orders", 2, id=3), activate("orders", 2))
    tap.will(record("orders", 1, id=4), activate("orders", 1))
    tap.will(activate("orders", 5), record("orders", 1, id=6), activate("orders", 1))
    options = {"key": {"orders": "id"}} if write == "upsert" else {}
    shop = declared(project, tap, ["orders"], write=write, ended=ended, **options)
    days = ("2026-01-01", "2026-01-02", "2026-01-03")

    def seen():
        found = project.rows("select * from shop.orders order by id, _sdc_table_version")
        return {(row["id"], row["_sdc_table_version"]): row.get("_sdc_deleted_at") for row in found}

    reports = [project.run(shop, day) for day in days]
    with project.services.metadata.read() as tx:
        second, third = (tx.archive.get(one.batch.id, "orders").extracted_at for one in reports[1:])
    gone = {(1, 1): second, (2, 2): third, (3, 2): third} if ended == "mark" else {}
    if gone and write == "append":
        gone[2, 1] = second
    assert seen() == {**gone, (4, 1): None}
    assert project.run(shop, days[0]).ok
    assert seen() == {**gone, (4, 1): None}
    assert project.run(shop, days[2]).ok
    assert seen() == {**gone, (4, 1): None}
    revert_batch(project.services, reports[1].batch.id)
    if write == "append" and ended == "delete":
        assert project.run(shop, days[0]).ok
    assert seen() == dict.fromkeys([(1, 1), (2, 1), (4, 1)])
    fourth = project.run(shop, "2026-01-04")  # activates two
    with project.services.metadata.read() as tx:
        last = tx.archive.get(fourth.batch.id, "orders").extracted_at
    left = dict.fromkeys([(1, 1), (2, 1), (4, 1)], last) if ended == "mark" else {}
    assert seen() == {**left, (6, 1): None}


def test_rows_that_bring_a_mark_of_their_own_are_not_marked(project, tap):
    """Taps that follow a log say themselves when a row was deleted."""
    tap.will(record("orders", 1, id=1, _sdc_deleted_at="2026-01-01T00:00:00Z"), activate("orders", 1))
    shop = declared(project, tap, ["orders"], ended="mark")
    error = project.run(shop, "2026-01-01").error
    assert 'come with a column "_sdc_deleted_at"' in str(error)
    assert 'ended="delete"' in str(error.hint)


def test_an_activated_version_without_rows_empties_a_table(project, tap):
    """Of a table that is empty at its source; and one that is replaced has no version in it."""
    tap.will(record("orders", 1, id=1), record("items", 1, item="nail"))
    tap.will(
        activate("orders", 2), record("items", 1, item="old"), record("items", 2, item="saw"), activate("items", 2)
    )
    shop = declared(project, tap, write={"orders": "append", "items": "replace"})
    assert project.run(shop, "2026-01-01").ok
    assert project.run(shop, "2026-01-02").ok
    assert project.rows("select * from shop.orders") == []
    assert project.rows("select * from shop.items") == [{"item": "saw"}]


def test_files_of_batch_messages_are_archived_and_loaded(project, tap):
    """Beside records in lines; packed by gzip, whose bytes are kept."""
    packed = gzip.compress(b'{"id": 2, "total": 5}\n{"id": 3}\n')
    (tap.folder / "orders 1.jsonl.gz").write_bytes(packed)
    address = (tap.folder / "orders 1.jsonl.gz").as_uri()
    message = {"type": "BATCH", "stream": "orders", "encoding": {"format": "jsonl", "compression": "gzip"}}
    tap.will(
        schema("orders", ORDERS), record("orders", id=1), json.dumps({**message, "manifest": [address]}),
        record("orders", id=4), state(4),
    )  # fmt: skip
    tap.will(json.dumps({**message, "encoding": {"format": "parquet"}, "manifest": [address]}))
    shop = declared(project, tap, ["orders"])
    report = project.run(shop, "2026-01-01")
    assert report.ok, report.error
    assert project.rows("select id, total from shop.orders") == [
        {"id": 1, "total": None}, {"id": 2, "total": 5.0}, {"id": 3, "total": None}, {"id": 4, "total": None},
    ]  # fmt: skip
    with project.services.metadata.read() as tx:
        (kept,) = (part for part in tx.archive.get(report.batch.id, "orders").parts if "batch" in part.name)
    with project.services.archive.open(kept) as stream:
        assert stream.read() == packed
    assert "sends batches as {'format': 'parquet'}" in str(project.run(shop, "2026-01-02").error)


def test_death_in_the_middle_of_an_extraction(project, tap):
    """SIGKILL of Tidemill while the tap writes: the next run begins again, and each row is there once."""
    (project.root / "tidemill.toml").write_text('[project]\nname = "test"\n')
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines" / "shop.py").write_text(SHOP)
    tap.will(*[record("orders", id=i) for i in range(5000)], state(5000), "@kill")
    tap.will(*[record("orders", id=i) for i in range(7000)], state(7000))
    command = [sys.executable, "-m", "tidemill.cli", "run", "shop", "2026-01-01"]
    killed = subprocess.run(command, cwd=project.root, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = subprocess.run(command, cwd=project.root, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [call.get("state") for call in tap.calls] == [None, None]
    found = project.rows("select count(*) as n, count(distinct id) as ids from shop.orders")
    assert found == [{"n": 7000, "ids": 7000}]


def test_death_between_the_manifests_of_two_streams(project, tap, monkeypatch):
    """One is sealed and the other is not: both are extracted again, and the first one's rows are those of that time."""
    tap.will(record("orders", id=1), record("items", item="nail"), state(1))
    tap.will(record("orders", id=1), record("items", item="nail"), record("items", item="saw"), state(2))
    tap.will(state(3))
    seal, left = project.services.archive.seal, ["orders"]

    def dying(batch, manifest):
        if manifest.source in left:
            left.remove(manifest.source)
            raise RuntimeError("the power is gone")
        seal(batch, manifest)

    monkeypatch.setattr(project.services.archive, "seal", dying)
    shop = declared(project, tap)
    with contextlib.suppress(RuntimeError):
        assert not project.run(shop, "2026-01-01").ok
    assert project.run(shop, "2026-01-01").ok
    assert project.run(shop, "2026-01-02").ok
    assert [call.get("state") for call in tap.calls] == [None, None, 2]
    assert project.rows("select item from shop.items order by item") == [{"item": "nail"}, {"item": "saw"}]
    with project.services.metadata.read() as tx:
        assert tx.archive.get(1, "items").version == 2


def test_a_replaced_table_stays_where_a_batch_is_older_than_its_feed(project, tap):
    """Running a batch again that knows nothing of a stream does not empty the stream's table."""
    tap.will(record("orders", id=1), state(1))
    tap.will(record("items", item="nail"), state(2))
    assert project.run(declared(project, tap, ["orders"]), "2026-01-01").ok
    both = declared(project, tap, write={"items": "replace"})
    assert project.run(both, "2026-01-02").ok
    assert project.run(both, "2026-01-01").ok
    assert project.rows("select item from shop.items") == [{"item": "nail"}]


SHOP = """
import tidemill as tm
from tidemill import sources

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")
for each in sources.singer("taps/tap_shop.py", select=["orders"]):
    shop.source(each)
"""
