"""The port `destination` over files: what counts is what the newest manifest lists, in any format, wherever it dies."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest

from harness.landing import Landing, files_landing, listed, rows
from tidemill.adapters.arrow.destination import GRACE, FilesDestination
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.model.errors import Conflict, DefinitionError, Refused, UnknownName
from tidemill.ports.destination import Load
from tidemill.testing.clock import ManualClock
from tidemill.testing.faults import FaultPoints

UTC = dt.UTC


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return files_landing(tmp_path)


class Died(BaseException):
    """The process ends here."""


EVERY = {
    "flag": "boolean", "n": "int", "real": "double", "day": "date", "naive": "timestamp", "moment": "timestamptz",
    "text": "string", "raw": "binary", "id": "uuid", "money": "decimal(12,3)", "l": "list<long>",
    "s": "struct<a:string>",
}  # fmt: skip
FULL = (
    True, -7, 0.1, dt.date(1969, 12, 31), dt.datetime(2026, 2, 3, 4, 5, 6), dt.datetime(2026, 1, 1, 0, 0, 0, 1, UTC),
    'a "b",\n;', b"\x00\xff", uuid.UUID(int=5).bytes, Decimal("-123456789.125"), [1, None], {"a": "x"},
)  # fmt: skip
EMPTY = tuple("" if kind == "string" else None for kind in EVERY.values())


def loaded(landing: Landing, folder: Path, **options: str) -> Path:
    landing.load(rows(EVERY, [FULL, EMPTY], cut=1, options=options))
    (one,) = listed(folder)["t"]["files"]
    return folder / str(one["path"])


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
def test_parquet(landing: Landing, tmp_path: Path, compression: str) -> None:
    loaded(landing, tmp_path, compression=compression)
    full, empty = landing.ask("SELECT * FROM t ORDER BY n NULLS LAST")
    assert (*full[:8], str(full[8]), *full[9:]) == (*FULL[:8], str(uuid.UUID(int=5)), *FULL[9:])
    assert empty == EMPTY


def test_csv_tells_null_from_empty_text(landing: Landing, tmp_path: Path) -> None:
    path = loaded(landing, tmp_path, format="csv", compression="gzip")
    assert path.name.endswith(".csv.gz")
    text = gzip.decompress(path.read_bytes()).decode()
    names, full, _ = csv.reader(text.splitlines(keepends=True))
    assert names == list(EVERY)
    shown = dict(zip(names, full, strict=True))
    assert (shown["text"], shown["money"], shown["raw"]) == ('a "b",\n;', "-123456789.125", "AP8=")
    assert (shown["id"], shown["l"], shown["s"]) == (str(uuid.UUID(int=5)), "[1,null]", '{"a":"x"}')
    assert text.splitlines()[-1] == ',,,,,,"",,,,,'


def test_json_lines(landing: Landing, tmp_path: Path) -> None:
    path = loaded(landing, tmp_path, format="jsonl")
    full, empty = (json.loads(line) for line in path.read_text().splitlines())
    assert (full["n"], full["text"], full["l"], full["id"]) == (-7, 'a "b",\n;', [1, None], str(uuid.UUID(int=5)))
    assert [empty[name] for name in EVERY] == list(EMPTY)


def test_avro(landing: Landing, tmp_path: Path) -> None:
    with loaded(landing, tmp_path, format="avro").open("rb") as stream:
        full, empty = fastavro.reader(stream)
    assert [full[name] for name in EVERY] == [*FULL[:8], uuid.UUID(int=5), *FULL[9:]]
    assert [empty[name] for name in EVERY] == list(EMPTY)


def test_a_position_moves_with_its_rows_and_whoever_comes_from_another_does_nothing(landing: Landing) -> None:
    destination = landing.opened()
    assert destination.position("p/s") is None
    landing.load(rows({"a": "long"}, [(1,)]), source="p/s")
    landing.load(rows({"a": "long"}, [(2,)]), source="p/s", before="1", after="two")
    for before in (None, "1", "3"):
        with pytest.raises(Conflict):
            landing.load(rows({"a": "long"}, [(9,)]), source="p/s", before=before)
    assert destination.position("p/s") == "two"
    assert landing.ask("SELECT a FROM t ORDER BY a") == [(1,), (2,)]


def test_batches_are_removed_tables_replaced_and_columns_come(landing: Landing) -> None:
    columns = {"a": "long", "_batch_id": "long"}
    landing.load(rows(columns, [(1, 1), (2, 2), (3, 1), (4, 3)], mirror=True))
    landing.load(
        rows({**columns, "b": "string"}, [(5, 1, "x")], mirror=True, batches=(1, 3)), before="1", after="2"
    )  # fmt: skip
    assert landing.ask("SELECT * FROM t ORDER BY a") == [(2, 2, None), (5, 1, "x")]
    assert landing.load(rows(columns, [(6, 4)], write="replace"), before="2", after="3") == 1
    assert landing.ask("SELECT a FROM t") == [(6,)]
    landing.load(rows(columns, [], write="replace"), before="3", after="4")
    assert landing.ask("SELECT a FROM t") == []


def test_folders_of_partitions_are_contained_whatever_the_values_are(landing: Landing, tmp_path: Path) -> None:
    values = [("../../up", dt.date(2026, 1, 2)), ("..", None), ("a/b=c", dt.date(2026, 2, 1)), (None, None), ("", None)]
    how = {"partition": ["v", "month(d)"]}
    landing.load(rows({"v": "string", "d": "date"}, values, table="my/schema'x.t", options=how))
    folders = sorted(str(Path(one["path"]).parent) for one in listed(tmp_path)["my/schema'x.t"]["files"])
    none = "__HIVE_DEFAULT_PARTITION__"
    assert folders == sorted(
        f"my%2Fschema%27x/t/v={value}/d_month={month}"
        for value, month in (
            ("..%2F..%2Fup", "2026-01"), ("%2E%2E", none), ("a%2Fb%3Dc", "2026-02"), (none, none), ("", none)
        )
    )  # fmt: skip
    assert not (tmp_path.parent / "up").exists()


@pytest.mark.parametrize("wrong", [{"format": "xml"}, {"compression": "rar"}, {"partition": ["no(v)"]},
                                   {"partition": ["gone"]}, {"partition": ["day(v)"]}, {"key": ["v"]}])  # fmt: skip
def test_what_files_cannot_be_is_refused_and_nothing_is_left(
    landing: Landing, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises((DefinitionError, UnknownName)):
        landing.load(rows({"v": "string"}, [("x",)], options=wrong))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_files_of_others_are_refused(landing: Landing, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine.csv").write_text("a\n1\n")
    with pytest.raises(Refused, match=r"t/mine\.csv"):
        landing.load(rows({"a": "long"}, [(1,)], first=True))


def test_what_is_not_listed_any_more_goes_after_a_while() -> None:
    clock = ManualClock()
    files = MemoryFiles(clock)
    destination = FilesDestination(files, clock)
    for number in range(30):
        clock.advance(GRACE / 2 + dt.timedelta(seconds=1))
        before = None if number == 0 else str(number - 1)
        made = rows({"a": "long"}, [(number,)], write="replace")
        destination.load(Load("s", before, str(number), (made,)))
    data = [one.path for one in files.list("t/")]
    assert [path.partition("-")[0] for path in data] == ["t/000028", "t/000029", "t/000030"]
    assert len(list(files.list("_tidemill/"))) == 11, "manifests: the newest, and ten before it"


def test_wherever_a_load_dies_it_is_there_once_in_the_end() -> None:
    """At every effect: a file begun, written, visible, removed. The next one does the same load again."""

    def play(points: FaultPoints) -> None:
        clock = ManualClock()
        files = MemoryFiles(clock)
        whole = FilesDestination(files, clock)
        columns = {"a": "long", "_batch_id": "long"}
        how = {"mirror": True, "cut": 1}

        def first(destination: FilesDestination) -> None:
            made = rows(columns, [(1, 1), (2, 2)], table="p.one", first=True, **how)
            destination.load(Load("s", None, "1", (made, rows(columns, [(0, 1)], table="p.two", first=True, **how))))

        def second(destination: FilesDestination) -> None:
            made = rows(columns, [(3, 1)], table="p.one", batches=(1,), **how)
            destination.load(Load("s", "1", "2", (made, rows(columns, [(9, 2)], table="p.two", **how))))

        faulty = FilesDestination(points.files(files), clock)
        for before, load in ((None, first), ("1", second)):
            assert whole.position("s") == before
            try:
                load(faulty)
            except Died:
                if whole.position("s") == before:
                    load(whole)
        clock.advance(GRACE * 2)
        whole.load(Load("s", "2", "3", ()))
        whole.load(Load("s", "3", "4", ()))
        manifest = max(one.path for one in files.list("_tidemill/s/manifest-"))
        tables = json.load(files.open(manifest))["tables"]
        kept = {one["path"] for table in tables.values() for one in table["files"]}
        assert {name: sum(f["rows"] for f in table["files"]) for name, table in tables.items()} == {
            "p.one": 2, "p.two": 2,
        }  # fmt: skip
        assert {one.path for one in files.list("p/")} == kept, "nothing is left over"
        assert [one.path for one in files.list("_tidemill/s/begun-")] == []

    def die(_name: str) -> None:
        raise Died

    counting = FaultPoints()
    play(counting)
    assert len(counting.passed) > 30
    for at in range(len(counting.passed)):
        play(FaultPoints(at, die))


def test_of_two_that_load_at_once_one_does(tmp_path: Path) -> None:
    clock = ManualClock()
    one, other = (FilesDestination(LocalFiles(tmp_path), clock) for _ in range(2))

    def meanwhile() -> Iterator[Any]:
        other.load(Load("s", None, "other", (rows({"a": "long"}, [(2,)]),)))
        yield from rows({"a": "long"}, [(1,)]).rows

    made = rows({"a": "long"}, [])
    with pytest.raises(Conflict):
        one.load(Load("s", None, "one", (type(made)("t", made.columns, meanwhile()),)))
    assert one.position("s") == "other"
    files = [path for path in (tmp_path / "t").rglob("*") if path.is_file()]
    assert [str(path.relative_to(tmp_path)) for path in files] == [f["path"] for f in listed(tmp_path)["t"]["files"]]
