"""The manifest of a batch, and what the first load adds to it: rows and columns of files that came as they are."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.maintain import vacuum
from tidemill.model.batch import Manifest
from tidemill.testing.faults import FaultPoints

FEEDS = {
    "2026-01-01/a.csv.gz": gzip.compress(b"id,price\n1,2.5\n2,3\n", mtime=1),
    "2026-01-01/b.csv.gz": gzip.compress(b"id,price\n3,1\n4,1,1\n5,2\n", mtime=1),
}


def feeds(project: Project, **options: Any) -> Pipeline:
    for name, raw in FEEDS.items():
        file = project.root / "feeds" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)
    p = project.pipeline()
    p.files("feeds/{{ ds }}/*.csv.gz", name="orders", **options)
    return p


def manifest_of(project: Project, batch_id: int = 1, version: int | None = None) -> Manifest:
    with project.services.metadata.read() as tx:
        found = tx.archive.get(batch_id, "orders", version)
    assert found is not None
    return found


def folder(project: Project, batch_id: int = 1, day: str = "2026-01-01") -> Path:
    return project.root / f".tidemill/archive/shop/orders/dt={day}/batch={batch_id}"


def test_the_manifest_says_what_came_when_and_from_which_code(project: Project) -> None:
    before = datetime.now(UTC)
    report = project.run(feeds(project), "2026-01-01")
    assert report.ok
    told = json.loads((folder(project) / "manifest.v1.json").read_text())
    assert [p["sha256"] for p in told["parts"]] == [hashlib.sha256(raw).hexdigest() for raw in FEEDS.values()]
    assert [p["bytes"] for p in told["parts"]] == [len(raw) for raw in FEEDS.values()]
    assert told["bytes"] == sum(map(len, FEEDS.values()))
    assert before <= datetime.fromisoformat(told["extracted_at"]) <= datetime.now(UTC)
    assert told["interval"] == ["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"]
    assert told["code_version"] == project.services.code_version
    assert told["code_version"]


def test_the_first_load_adds_rows_and_columns_beside_the_manifest(project: Project) -> None:
    project.run(feeds(project, csv={"null_values": ["-"]}), "2026-01-01")
    told = json.loads((folder(project) / "schema.v1.json").read_text())
    assert (told["rows"], told["rejected"], told["parts"]) == (4, 1, [2, 3])
    assert told["columns"] == {"": {"id": "long", "price": "double"}}
    assert told["options"] == {"csv": {"null_values": ["-"]}}
    assert told["code_version"] == project.services.code_version
    found = manifest_of(project)
    assert (found.rows, [p.rows for p in found.parts], dict(found.schema)) == (5, [2, 3], told["columns"][""])


def test_the_system_table_of_files_knows_the_rows_then(project: Project) -> None:
    project.run(feeds(project), "2026-01-01")
    assert project.rows("select name, rows from tidemill.files order by name") == [
        {"name": "feeds/2026-01-01/a.csv.gz", "rows": 2},
        {"name": "feeds/2026-01-01/b.csv.gz", "rows": 3},
    ]


def test_a_later_load_with_other_code_leaves_it_as_it_was(project: Project) -> None:
    project.run(feeds(project), "2026-01-01")
    first = (folder(project) / "schema.v1.json").read_bytes()
    newer = feeds(project, columns={"note": "string"})
    assert project.run(newer, "2026-01-01").ok
    assert (folder(project) / "schema.v1.json").read_bytes() == first


def test_each_extraction_is_described_by_itself(project: Project) -> None:
    p = feeds(project)
    project.run(p, "2026-01-01")
    (project.root / "feeds/2026-01-01/c.csv.gz").write_bytes(gzip.compress(b"id,price,note\n6,1,x\n"))
    assert project.run(p, "2026-01-01", refetch=True).ok
    assert [manifest_of(project, version=v).rows for v in (1, 2)] == [5, 6]
    assert [list(manifest_of(project, version=v).schema) for v in (1, 2)] == [["id", "price"], ["id", "price", "note"]]


def test_records_know_their_number_before_any_load_and_a_bookmark_source_its_range(project: Project) -> None:
    p = project.pipeline()
    given = [[{"id": 1}, {"id": 2}], [{"id": 3}]]

    @p.source
    def orders(bookmark: Any) -> Iterator[Any]:
        yield from given[0 if bookmark.value is None else 1]
        bookmark.advance((bookmark.value or 0) + 1)

    @p.table
    def broken(orders: Any) -> Any:
        raise ValueError

    assert not project.run(p, "2026-01-01").ok
    told = json.loads((folder(project) / "manifest.v1.json").read_text())
    assert (told["rows"], told["parts"][0]["rows"]) == (2, 2)
    assert (told["bookmark_before"], told["bookmark_after"]) == (None, 1)


def test_a_load_that_fails_leaves_no_word(project: Project) -> None:
    report = project.run(feeds(project, max_rejected=0), "2026-01-01")
    assert "max_rejected is 0" in str(report.error)
    assert not (folder(project) / "schema.v1.json").exists()
    assert manifest_of(project).rows is None
    assert project.run(feeds(project), "2026-01-01").ok
    assert manifest_of(project).rows == 5


def test_the_archive_alone_tells_it_where_the_index_does_not_know(project: Project) -> None:
    project.run(feeds(project), "2026-01-01")
    with project.services.metadata.read() as tx:
        batch = tx.batches.get(1)
    assert batch is not None
    assert project.services.archive.sealed(batch, "orders") == manifest_of(project)


class PowerCut(BaseException):
    """What a fault point raises here."""


def test_a_death_between_the_file_and_the_index_is_made_good_by_the_next_load(tmp_path: Path) -> None:
    def cut(_: str) -> None:
        raise PowerCut

    counting = FaultPoints()
    rehearsal = Project(tmp_path / "rehearsal", wrap_files=counting.files)
    assert rehearsal.run(feeds(rehearsal), "2026-01-01").ok
    rehearsal.close()
    (visible,) = [i for i, name in enumerate(counting.passed) if name.startswith("visible") and "schema.v1" in name]

    project = Project(tmp_path / "real", wrap_files=FaultPoints(at=visible, fault=cut).files)
    p = feeds(project)
    with pytest.raises(PowerCut):
        project.run(p, "2026-01-01")
    assert manifest_of(project).contents is None
    assert project.run(p, "2026-01-01").ok
    assert manifest_of(project).rows == 5
    project.close()


def test_vacuum_leaves_it(project: Project) -> None:
    project.run(feeds(project), "2026-01-01")
    vacuum(project.services, grace=timedelta(0), keep=timedelta(0))
    assert {f.name for f in folder(project).iterdir()} == {
        "a1-0000-a.csv.gz",
        "a1-0001-b.csv.gz",
        "manifest.v1.json",
        "schema.v1.json",
    }
