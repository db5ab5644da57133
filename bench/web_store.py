"""A project for `./run bench web`: real pipelines and tables, and a history that no scheduler had to make.

What pages show of tables comes of real runs. The million runs of the history are rows, written by a few statements in
the database itself: running them would take days, and a page cannot tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import text

from tidemill.adapters.sql.store import SqlMetadata
from tidemill.authoring import registry
from tidemill.flow.audit import ChecksFailed
from tidemill.flow.branches import create_branch
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.project import load_pipelines
from tidemill.wiring.services import connect, open_metadata, system_clock
from tidemill.wiring.settings import STATE_FOLDER, Settings, load_settings

#: Pipelines that share the history.
USUAL = 197
#: Tasks of the pipeline whose grid is drawn, and of the one whose graph is.
WIDE, LARGE = 900, 1000

_PIPELINES = f"""
import tidemill as tm

for number in range({USUAL}):
    with tm.DAG(f"p{{100 + number}}", schedule="@hourly", start="2025-01-01", catchup=False, owner="ada"):

        @tm.task
        def load():
            return 1

        @tm.task
        def check(value):
            return value

        @tm.task
        def publish(value):
            return value

        publish(check(load()))

with tm.DAG("rare", schedule="@daily", start="2025-01-01", catchup=False):

    @tm.task
    def once():
        return 1

    once()


@tm.task
def step():
    return 1


with tm.DAG("wide", schedule="@hourly", start="2025-01-01", catchup=False):
    steps = [step.override(task_id=f"step_{{number:04}}")() for number in range({WIDE})]
    for before, after in zip(steps, steps[30:], strict=False):
        before >> after

with tm.DAG("large", schedule="@hourly", start="2025-01-01", catchup=False):
    steps = [step.override(task_id=f"node_{{number:04}}")() for number in range({LARGE})]
    for number, one in enumerate(steps):
        if number:
            steps[number // 2] >> one
        if number >= 40:
            steps[number - 40] >> one

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")


@shop.source
def orders(interval):
    for number in range(1000):
        price = number % 40 + (1 if interval.ds != "2026-01-02" else 20)
        yield {{"id": number, "customer": f"customer {{number % 77}}", "price": price}}


orders.expect(tm.between("price", 1, 100), name="price_is_sane")


@shop.table(key="id", write="upsert")
def latest(orders):
    return orders.select("id", "customer", "price")


latest.expect(tm.col("price") < 50, name="price_is_low")
"""

#: Of each database: numbers from 1 on as a table, and a time after the start of 2025.
_NUMBERS = {
    "sqlite": (
        "(WITH RECURSIVE n({i}) AS (SELECT 1 UNION ALL SELECT {i} + 1 FROM n WHERE {i} < {count}) SELECT {i} FROM n)"
    ),
    "postgresql": "(SELECT generate_series(1, {count}) AS {i})",
}
_MOMENT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', '2025-01-01', '+' || ({seconds}) || ' seconds') || '.000000'",
    "postgresql": "(timestamptz '2025-01-01 00:00:00Z' + ({seconds}) * interval '1 second')",
}


def make_project(folder: Path, metadata_url: str | None = None) -> Settings:
    """A project folder with pipelines that were parsed, and three real runs, one of which failed its check."""
    folder.mkdir(parents=True, exist_ok=True)
    more = f'[metadata]\nurl = "{metadata_url}"\n' if metadata_url else ""
    (folder / "tidemill.toml").write_text(f'[project]\nname = "bench"\n{more}[web]\nport = 0\n', encoding="utf-8")
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "pipelines" / "all.py").write_text(_PIPELINES, encoding="utf-8")
    os.environ["TIDEMILL_PROJECT"] = str(folder)
    settings = load_settings(folder)
    parse_once(settings)
    services = connect(settings)
    create_branch(services, "look")
    services.metadata.close()
    try:
        shop = load_pipelines(settings)["shop"]
        for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
            with suppress(ChecksFailed):
                shop.run(day)
    finally:
        registry.clear()
    return settings


def fill(settings: Settings, count: int) -> None:
    """Add `count` finished runs of the pipelines, with batches, tasks, and some manifests and checks."""
    metadata = open_metadata(settings, system_clock())
    assert isinstance(metadata, SqlMetadata)
    with metadata.read() as tx:
        first = max((one.id for one in tx.batches.recent(limit=1)), default=0) + 1000
        definitions = {one.name: one.definition_id for one in tx.definitions.pipelines()}
    with metadata.session(writing=True) as session:
        connection = session._connection
        if session.dialect == "sqlite":
            connection.execute(text("PRAGMA cache_size = -1000000"))
        connection.execute(text("CREATE TEMPORARY TABLE bench_of (pipeline TEXT PRIMARY KEY, definition_id BIGINT)"))
        for name, id_ in definitions.items():
            connection.execute(text("INSERT INTO bench_of VALUES (:name, :id)"), {"name": name, "id": id_})
        for statement in _history(session.dialect, first, count):
            connection.execute(text(statement))
    if not metadata._engines.sqlite:
        with metadata._engines.changer.connect().execution_options(isolation_level="AUTOCOMMIT") as own:
            own.execute(text("VACUUM ANALYZE"))
    metadata.close()


def _history(kind: str, first: int, count: int) -> Iterator[str]:
    """The statements: run i, of batch i, of a pipeline that i says; every 37th has failed."""

    def at(seconds: str) -> str:
        return _MOMENT[kind].format(seconds=seconds)

    numbers = _NUMBERS[kind].format(i="i", count=count) + " numbers"
    tasks = _NUMBERS[kind].format(i="j", count=WIDE) + " tasks_of_wide"
    is_wide = f"i % {max(count // 25, 1)} = 7"
    pipeline = (
        f"CASE WHEN {is_wide} THEN 'wide' WHEN i <= {count // 33} AND i % {max(count // 1000, 2)} = 3 THEN 'rare'"
        f" ELSE 'p' || (100 + i % {USUAL}) END"
    )
    id_, failed, some = f"{first} + i", "i % 37 = 0", "i % 10 = 0"
    interval = f"{at('i * 60')}, {at('i * 60 + 60')}, 'UTC'"
    yield (
        "INSERT INTO batches (id, project, pipeline, interval_start, interval_end, interval_zone, state, created_at,"
        f" extracted_at, archived_at, loaded_at, published_at, code_version) SELECT {id_}, 'bench', {pipeline},"
        f" {interval}, CASE WHEN {failed} THEN 'open' ELSE 'published' END, {at('i * 30')}, {at('i * 30 + 1')},"
        f" {at('i * 30 + 2')}, {at('i * 30 + 3')}, CASE WHEN {failed} THEN NULL ELSE {at('i * 30 + 20')} END, 'c0de'"
        f" FROM {numbers}"
    )
    yield (
        "INSERT INTO fences (id, project, purpose, at)"
        f" SELECT {id_}, 'bench', 'batch ' || ({id_}), {at('i * 30')} FROM {numbers}"
    )
    yield (
        "INSERT INTO runs (id, project, batch_id, attempt, state, fence, created_at, started_at, ended_at, error, kind,"
        f" conf, definition_id, code_version, pipeline, interval_start) SELECT {id_}, 'bench', {id_}, 1,"
        f" CASE WHEN {failed} THEN 'failed' ELSE 'success' END, {id_}, {at('i * 30')}, {at('i * 30 + 1')},"
        f" {at('i * 30 + 20')}, CASE WHEN {failed} THEN 'a check failed, 17 rows have no price' END, 'scheduled',"
        f" '{{}}', definition_id, 'c0de', pipeline, {at('i * 60')}"
        f" FROM (SELECT i, {pipeline} AS name FROM {numbers}) named JOIN bench_of ON bench_of.pipeline = named.name"
    )
    into = (
        "INSERT INTO tasks (run_id, task, map_index, state, tries, queued_at, started_at, ended_at, failed, lost)"
        f" SELECT {id_},"
    )
    rest = f"1, {at('i * 30 + 1')}, {at('i * 30 + 2')}, {at('i * 30 + 9')}, 0, 0"
    yield f"{into} 'load', -1, 'success', {rest} FROM {numbers}"
    for task, state in (("check", "failed"), ("publish", "upstream_failed")):
        told = f"CASE WHEN {failed} THEN '{state}' ELSE 'success' END"
        yield f"{into} '{task}', -1, {told}, {rest} FROM {numbers} WHERE {some} OR {failed}"
    told = "CASE WHEN (i + j) % 41 = 0 THEN 'failed' ELSE 'success' END"
    step = "'step_' || substr('' || (9999 + j), 2, 4)"  # 10000 is the first
    yield f"{into} {step}, -1, {told}, {rest} FROM {numbers} CROSS JOIN {tasks} WHERE {is_wide}"
    yield (
        "INSERT INTO manifests (project, batch_id, pipeline, source, version, attempt, extracted_at, code_version,"
        " interval_start, interval_end, interval_zone, bookmark_before, bookmark_after, schema)"
        f" SELECT 'bench', {id_}, {pipeline}, 'given', 1, 1, {at('i * 30 + 1')}, 'c0de', {interval}, 'null', 'null',"
        f" '{{}}' FROM {numbers} WHERE {some}"
    )
    yield (
        "INSERT INTO checks (project, run_id, batch_id, namespace, table_name, name, severity, passed, at, rows,"
        f" failed) SELECT 'bench', {id_}, {id_}, {pipeline}, 'rows', 'price_is_there', 'error', NOT ({failed}),"
        f" {at('i * 30 + 9')}, 1000, 0 FROM {numbers} WHERE {some}"
    )
    if kind == "postgresql":
        for table in ("batches", "fences", "runs"):
            yield f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {first + count})"


def log_of(settings: Settings, run: int) -> Path:
    """Where the log of a million lines is: of the task `load` of a run of `p150`."""
    return settings.root / STATE_FOLDER / "logs" / "p150" / str(run) / "load" / "1.jsonl"


def make_log(settings: Settings, run: int, lines: int = 1_000_000) -> None:
    """Write it: a writer of the product's would have stopped at 16 MB."""
    path = log_of(settings, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            level = "ERROR" if number == lines // 2 else "INFO"
            at = f"2026-01-01T{number // 60_000 % 24:02}:{number // 1000 % 60:02}:00.000000+00:00"
            said = f"row {number} of the feed is kept"
            file.write(f'{{"at": "{at}", "level": "{level}", "source": "stdout", "text": "{said}"}}\n')
