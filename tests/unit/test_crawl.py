"""What a crawl makes of names and of the first lines of files."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill.adapters.yaml.documents import YamlDocuments
from tidemill.model.errors import DefinitionError
from tidemill.model.types import DATE, LONG, STRING
from tidemill.plan.crawl import Seen, dialect_of, drift_of, groups_of, one_dialect, yaml_of
from tidemill.plan.globs import Glob
from tidemill.plan.path_columns import hive_values, path_types, path_value, type_of_texts


def test_each_folder_is_a_table_and_marks_of_other_tools_are_none() -> None:
    paths = ["a.csv", "Sales 2026/x.csv.gz", "Sales 2026/more/y.csv.gz", "sales-2026/z.csv", "_logs/l.csv",
             "events/_SUCCESS", "events/.part.crc", "events/e.jsonl", "day=2026-01-01/h.csv"]  # fmt: skip
    files = [*(Seen(path, 1) for path in paths), Seen("events/empty.jsonl", 0)]
    found = {one.name: one for one in groups_of(files, "raw")}
    assert {name: [file.path for file in one.files] for name, one in found.items()} == {
        "raw": ["a.csv", "day=2026-01-01/h.csv"],
        "sales_2026_1": ["Sales 2026/more/y.csv.gz", "Sales 2026/x.csv.gz"],
        "sales_2026_2": ["sales-2026/z.csv"],
        "events": ["events/e.jsonl"],
    }
    assert "not partitioned alike" in found["raw"].trouble
    assert found["sales_2026_1"].pattern == "Sales 2026/**/*.csv.gz"
    for one in found.values():
        assert all(Glob(one.pattern).matches(file.path) for file in one.files)
    (mixed,) = groups_of([Seen("t/a.csv", 1), Seen("t/b.json", 1)], "raw")
    assert mixed.trouble == "files of several formats: csv, jsonl"


def test_folders_say_values() -> None:
    files = [Seen(f"t/day=2026-01-0{n}/shop=0{n}/n={n}/x.parquet", 1) for n in (1, 2)]
    (group,) = groups_of(files, "raw")
    assert group.keys == {"day": DATE, "shop": STRING, "n": LONG}
    assert hive_values("a=1%2F2/b=__HIVE_DEFAULT_PARTITION__/c=3") == {"a": "1/2", "b": None}
    assert type_of_texts(["2026-01-01", "1"]) == STRING
    assert type_of_texts([None]) == STRING
    assert path_value("7", LONG) == 7
    assert path_value(None, DATE) is None
    with pytest.raises(ValueError, match="no date"):
        path_value("20260101", DATE)
    with pytest.raises(DefinitionError, match="holds no double"):
        path_types({"x": "double"})


@pytest.mark.parametrize(
    ("head", "dialect"),
    [
        (b"id,name\n1,a\n", {}),
        (b"id;name\n1;a,b\n2;c,d\n", {"delimiter": ";"}),
        (b"id\tname\n1\ta\n", {"delimiter": "\t"}),
        (b"id|name|x\n1|\"a|b\"|2\n", {"delimiter": "|"}),
        (b"1,a\n2,b\n", {"header": False}),
        (b"id;price\n1;2,50\n2;3\n", {"delimiter": ";", "decimal": ","}),
        (b'id,price\n1,"2,50"\n', {"decimal": ","}),
        (b"id;price;rate\n1;2,50;0.5\n", {"delimiter": ";"}),
        (b"id;people\n1;1,234\n", {"delimiter": ";"}),
        (b"id;places\n1;2,50\n2;home\n", {"delimiter": ";"}),
        (b"2026-01-01;a\n", {"delimiter": ";", "header": False}),
        ("id;naïve\n1;Zoë\n".encode("cp1252"), {"encoding": "cp1252", "delimiter": ";"}),
        ("id,naïve\n1,Zoë".encode()[:-1], {}),
        ("﻿id,name\n1,a\n".encode(), {}),
        (b"only\none\n", {}),
        (b"1\n2\n", {"header": False}),
        (b"", {}),
    ],
)  # fmt: skip
def test_the_dialect_of_csv(head: bytes, dialect: dict[str, Any]) -> None:
    assert dialect_of(head) == dialect


def test_files_of_one_table_are_written_alike() -> None:
    assert one_dialect([{"delimiter": ";"}, {"delimiter": ";", "encoding": "cp1252"}]) == {
        "delimiter": ";", "encoding": "cp1252",
    }  # fmt: skip
    with pytest.raises(DefinitionError, match="several ways"):
        one_dialect([{}, {"delimiter": ";"}])
    assert one_dialect([{"delimiter": ";", "decimal": ","}, {"delimiter": ";"}]) == {"decimal": ",", "delimiter": ";"}
    assert dialect_of(b"id\tname\n1\ta\n", named_tsv=True) == {}


def test_what_has_changed_since_the_last_crawl() -> None:
    before = {"id": "int", "price": "decimal(5,2)", "gone": "string", "odd": "long", "text": "string"}
    found = {"id": "long", "price": "decimal(7,2)", "odd": "boolean", "text": "long", "new": "date"}
    drift = drift_of("t", {"format": "csv", "columns": before}, {"format": "jsonl", "columns": found})
    assert drift.changes == (
        "! format csv, and now jsonl", "~ id int -> long", "~ price decimal(5,2) -> decimal(7,2)",
        "! odd long, and now boolean", "+ new date", "- gone string",
    )  # fmt: skip
    assert drift.columns == {**before, "id": "long", "price": "decimal(7,2)", "new": "date"}
    assert not drift_of("t", {"format": "csv", "columns": before}, {"format": "csv", "columns": before}).changes


def test_what_is_written_is_read_as_it_was() -> None:
    document = {
        "pipeline": "raw", "schedule": "@daily", "start": "2026-01-01", "retries": 3,
        "sources": {"on": {"files": {"pattern": 'a "b" *.csv', "new": True}, "csv": {"delimiter": "\t", "header": True},
                           "columns": {"a: b": "list<struct<x:long>>", "true": "string", "ü": "decimal(5,2)"},
                           "checks": [{"not_null": "id"}, "x"], "key": [], "doc": "a\nb #c"}},
    }  # fmt: skip
    assert YamlDocuments().read(yaml_of(document), "x.yaml").plain() == document
