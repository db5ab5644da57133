"""Rule 9: loading reads only the archive; extraction is never repeated for nothing; replays run new code on it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from typing import Any

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.batch import Batch


def counted(project: Project, asked: list[str], rows: Callable[[], list[dict[str, Any]]]) -> Pipeline:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Any:
        asked.append(interval.ds)
        yield from rows()

    return p


def test_a_re_run_does_not_ask_the_source_again(project: Project) -> None:
    asked: list[str] = []
    p = counted(project, asked, lambda: [{"id": 1}])
    for _ in range(3):
        assert project.run(p, "2026-01-01").ok
    assert asked == ["2026-01-01"]


def test_new_code_runs_on_archived_bytes(project: Project) -> None:
    asked: list[str] = []
    p = counted(project, asked, lambda: [{"id": 1, "price": 2}])
    project.run(p, "2026-01-01")
    newer = counted(project, asked, list)

    @newer.table
    def doubled(orders: Any) -> Any:
        import polars as pl

        return orders.with_columns(price=pl.col("price") * 2)

    assert project.run(newer, "2026-01-01").ok
    assert project.table("shop.doubled") == [(1, 4)]
    assert len(asked) == 1


def test_refetch_archives_beside_the_old_version(project: Project) -> None:
    asked: list[str] = []
    rows = [{"id": 1}]
    p = counted(project, asked, lambda: rows)
    project.run(p, "2026-01-01")
    rows.append({"id": 2})
    project.run(p, "2026-01-01", refetch=True)
    with project.services.metadata.read() as tx:
        newest = tx.archive.get(1, "orders")
        oldest = tx.archive.get(1, "orders", 1)
    assert newest is not None
    assert oldest is not None
    assert (newest.version, newest.rows, oldest.rows) == (2, 2, 1)
    for manifest in (newest, oldest):
        for part in manifest.parts:
            with project.services.archive.open(part) as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == part.sha256


def test_files_are_kept_byte_for_byte_where_the_batch_says(project: Project) -> None:
    raw = gzip.compress(b"id,v\n1,a\n", mtime=1)
    feeds = project.root / "feeds"
    feeds.mkdir()
    (feeds / "2026-01-01.csv.gz").write_bytes(raw)
    p = project.pipeline()
    orders = p.files("feeds/{{ ds }}.csv.gz")
    assert orders.name == "orders"
    assert project.run(p, "2026-01-01").ok
    folder = project.root / ".tidemill/archive/shop/orders/dt=2026-01-01/batch=1"
    (part,) = [f for f in folder.iterdir() if f.suffix == ".gz"]
    assert part.read_bytes() == raw
    assert (folder / "manifest.v1.json").is_file()
    (feeds / "2026-01-01.csv.gz").unlink()
    assert project.run(p, "2026-01-01").ok, "the source file is not needed any more"


def test_an_extraction_sealed_before_a_crash_is_found_again(project: Project) -> None:
    """The manifest was written and the process died before the database knew: the archive is the truth."""
    asked: list[str] = []
    p = counted(project, asked, lambda: [{"id": 1}])
    project.run(p, "2026-01-01")
    batch: Batch | None
    with project.services.metadata.read() as tx:
        batch = tx.batches.get(1)
    assert batch is not None
    found = project.services.archive.sealed(batch, "orders")
    with project.services.metadata.read() as tx:
        assert found == tx.archive.get(1, "orders")


def test_a_changed_archive_file_is_refused(project: Project) -> None:
    p = counted(project, [], lambda: [{"id": 1}])
    project.run(p, "2026-01-01")
    folder = project.root / ".tidemill/archive/shop/orders/dt=2026-01-01/batch=1"
    (part,) = [f for f in folder.iterdir() if f.suffix == ".zst"]
    part.chmod(0o644)
    part.write_bytes(part.read_bytes() + b"x")
    report = project.run(p, "2026-01-01")
    assert "bytes instead of" in str(report.error)
    assert "--refetch" in str(report.error)
