"""`tidemill data crawl`: files below a root become sources, are loaded, and are compared when they have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands import CommandLine
from harness.objectstore import ObjectStore


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        day, _, kind = name.partition("_")
        path = folder / f"raw/sales/day=2026-01-0{day[1:]}/{kind or 'x'}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_crawl_makes_sources_and_follows_or_refuses_what_changes(cli: CommandLine) -> None:
    put(cli.folder, d1="id;amount\n1;5\n", d2="id;amount\n2;7\n")
    shown = cli("data", "crawl", "raw")
    assert "sales  csv delimiter=';'" in shown.out
    assert "day date" in shown.out
    assert not (cli.folder / "pipelines/raw.yaml").exists()
    written = cli("data", "crawl", "raw/", "--write", "pipelines/raw.yaml", "--drift", "fail")
    assert "wrote  pipelines/raw.yaml  1 source" in written.out
    assert cli("run", "raw").exit_code == 0
    rows = "select id, amount, day from raw.sales order by id"
    assert [list(r.values()) for r in cli("query", rows, "--json").object["rows"]] == [
        [1, 5, "2026-01-01"], [2, 7, "2026-01-02"]]  # fmt: skip

    put(cli.folder, d3="id;amount;note\n3;9;x\n")
    refused = cli("data", "crawl", "raw", "--write", "pipelines/raw.yaml", "--drift", "fail")
    assert refused.exit_code == 1
    assert "sales: + note string" in refused.err
    stopped = cli("run", "raw")
    assert stopped.exit_code == 1, "the load refuses, too: contract freeze"
    taken = cli("data", "crawl", "raw", "--write", "pipelines/raw.yaml", "--drift", "evolve", "--json").object
    assert taken["drift"] == {"sales": ["+ note string"]}
    assert cli("replay", "2").exit_code == 0
    assert [list(r.values()) for r in cli("query", "select id, note, day from raw.sales where day > '2026-01-01'"
                                          " order by id", "--json").object["rows"]] == [
        [2, None, "2026-01-02"], [3, "x", "2026-01-03"]]  # fmt: skip


def test_what_a_path_does_not_say_is_told(cli: CommandLine) -> None:
    put(cli.folder, d1="id\n1\n")
    cli("data", "crawl", "raw", "--write", "pipelines/raw.yaml")
    (cli.folder / "raw/sales/loose.csv").write_text("id\n2\n")
    failed = cli("run", "raw")
    assert failed.exit_code == 1
    assert 'The path says no "day"' in failed.err
    assert "raw/sales/loose.csv" in failed.err
    assert "left out: sales: its folders are not partitioned alike" in cli("data", "crawl", "raw").err


@pytest.mark.usefixtures("object_keys")
def test_a_bucket_and_what_cannot_be(cli: CommandLine, object_store: ObjectStore) -> None:
    (cli.folder / "tidemill.toml").write_text(
        f'[project]\nname = "shop"\n[s3]\nendpoint = "{object_store.endpoint}"\nregion = "us-east-1"\n'
    )
    bucket = object_store.bucket()
    for key, body in {
        "in/a/1.jsonl": b'{"x": 1}\n',
        "in/a/2.jsonl": b'{"x": 2.5}\n',
        "in/b/x.csv": b"\x00\xff,",
    }.items():
        object_store.client.put_object(Bucket=bucket, Key=key, Body=body)
    found = cli("data", "crawl", f"s3://{bucket}/in", "--json").object
    assert found["root"] == f"s3://{bucket}/in/"
    assert {one["name"]: one["columns"] for one in found["tables"]}["a"] == {"x": "double"}
    assert "There are no files below" in cli("data", "crawl", f"s3://{bucket}/nowhere/").err
    assert "leaves the project" in cli("data", "crawl", "../elsewhere").err
    (cli.folder / "mine.yaml").write_text("a: 1\n")
    other = cli("data", "crawl", f"s3://{bucket}/in", "--write", "mine.yaml")
    assert "no pipeline with sources" in other.err
    assert (cli.folder / "mine.yaml").read_text() == "a: 1\n"
