"""Rule 8: only our collector deletes, after marking from every root, after a grace and a second look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from harness.project import Project
from tidemill.flow.attempt import open_attempt
from tidemill.flow.branches import create_branch
from tidemill.flow.maintain import vacuum
from tidemill.flow.query import query, reading
from tidemill.flow.run import open_batch
from tidemill.flow.stage import Stage
from tidemill.model.branch import MAIN, RefKind
from tidemill.model.table import Schema, TableName, TableSpec
from tidemill.wiring.runner import keys_of

NOW = timedelta(0)


def lake(project: Project) -> set[str]:
    return {f.path for f in project.services.lake.list()}


def needed(project: Project, *refs: str) -> set[str]:
    with project.services.metadata.read() as tx:
        roots = [item for ref in (MAIN, *refs) for item in tx.refs.pointers(ref).items()]
    return project.services.catalog.reachable(roots)


def daily(project: Project, declare_feed: Callable[..., None], days: int = 3) -> Any:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"day": "d" + interval.ds[-2:]}])

    @p.table(write="replace")
    def out(orders: Any) -> Any:
        return orders

    for number in range(1, days + 1):
        assert project.run(p, f"2026-01-{number:02d}").ok
    return p


def test_a_branchs_commit_never_deletes_a_file_of_main(project: Project, declare_feed: Callable[..., None]) -> None:
    """PyIceberg's own clean-up was seen to delete main's metadata file: it is switched off per table."""
    p = daily(project, declare_feed)
    before = lake(project)
    for number in range(4, 30):
        project.run(p, f"2026-01-{number:02d}")
    assert before <= lake(project), "nothing that was there is gone"
    with project.services.metadata.read() as tx:
        pointers = tx.refs.pointers(MAIN)
    for name, pointer in pointers.items():
        properties = project.services.catalog.load(name, pointer).properties
        assert properties["gc.enabled"] == "false"
        assert properties["write.metadata.delete-after-commit.enabled"] == "false"


def test_garbage_waits_a_grace_and_a_second_look(project: Project, declare_feed: Callable[..., None]) -> None:
    daily(project, declare_feed)
    first = vacuum(project.services, keep=NOW)
    assert first.deleted == 0
    gone = vacuum(project.services, grace=NOW, keep=NOW)
    assert gone.deleted > 0
    assert lake(project) == needed(project)
    assert project.table("shop.out") == [("d03",)]


def test_what_any_ref_needs_stays(project: Project, declare_feed: Callable[..., None]) -> None:
    p = daily(project, declare_feed, days=1)
    create_branch(project.services, "trial")
    create_branch(project.services, "v1", kind=RefKind.TAG)
    project.run(p, "2026-01-02")
    vacuum(project.services, grace=NOW, keep=NOW)
    assert project.table("shop.out", branch="trial") == [("d01",)]
    assert project.table("shop.out", branch="v1") == [("d01",)]
    assert lake(project) == needed(project, "trial", "v1")


def test_a_reader_keeps_its_files_until_it_ends(project: Project, declare_feed: Callable[..., None]) -> None:
    p = daily(project, declare_feed, days=1)
    with reading(project.services) as seen:
        project.run(p, "2026-01-02")
        vacuum(project.services, grace=NOW, keep=NOW)
        with query(project.services, "select day from shop.out", seen) as reader:
            assert reader.read_all().to_pylist() == [{"day": "d01"}]


def test_what_a_live_attempt_has_staged_stays(project: Project, declare_feed: Callable[..., None]) -> None:
    p = daily(project, declare_feed, days=1)
    spec = p.spec()
    (key,) = keys_of(spec, "2026-01-05", project.services)
    batch = open_batch(project.services, spec, key)
    name = TableName("shop", "staged")
    with open_attempt(project.services, spec, batch) as attempt:
        with Stage(attempt, TableSpec(name)) as stage:
            stage.write_rows([{"a": 1}], Schema.of({"a": "long"}))
            files = {project.services.lake.relative(f.path) for f in stage.close_files()}
            vacuum(project.services, grace=NOW, keep=NOW)
        assert files <= lake(project), "no pointer knows these files yet"


def test_the_branch_of_a_failed_run_expires_after_its_time(project: Project, declare_feed: Callable[..., None]) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"day": 1}])

    @p.table
    def broken(orders: Any) -> Any:
        raise RuntimeError

    report = project.run(p, "2026-01-01")
    assert report.branch is not None
    assert vacuum(project.services).expired == ()
    later = project.services.clock.now() + timedelta(days=15)
    with project.services.metadata.write() as tx:
        ref = tx.refs.get(report.branch)
        assert ref is not None
        assert ref.expires_at is not None
        assert ref.expires_at < later
        tx.refs.update(report.branch, expires_at=project.services.clock.now())
    assert vacuum(project.services, grace=NOW, keep=NOW).expired == (report.branch,)
    assert lake(project) == set()


def test_superseded_versions_of_main_can_be_read_for_a_while(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    p = daily(project, declare_feed, days=1)
    moment = project.services.clock.now()
    project.run(p, "2026-01-02")
    vacuum(project.services, grace=NOW)
    assert project.rows("select day from shop.out", at=moment) == [{"day": "d01"}]
    assert project.rows("select day from shop.out") == [{"day": "d02"}]
