"""Services and databases for tests, and the block about them at the end of a session."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import settings

from harness import build_end, services, standstill
from harness import mariadb as mariadb_harness
from harness.brokers import kafka_or_why, kafka_servers
from harness.mariadb import MariaDB
from harness.objectstore import ObjectStore, serving
from harness.patience import pytest_runtest_setup
from harness.postgres import CannotStart, Postgres, running
from harness.s3keys import KEY, SECRET
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.authoring import registry
from tidemill.model.masking import GIVEN
from tidemill.testing.clock import ManualClock

#: Fixtures that tests of all folders use, and a hook.
__all__ = ["kafka_or_why", "kafka_servers", "pytest_runtest_setup"]

# A build tells what a change did, so it looks at the same examples each time; new ones are for everybody else to find.
# An example fails by what it finds, never by how long a busy computer takes for it.
settings.register_profile("build", derandomize=True, database=None, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("build" if os.environ.get("CI") == "true" else "local")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """What one test declared or was given as a secret is not there for the next; nor what it named of Airflow."""
    yield
    GIVEN.forget()
    registry.clear()
    left = sorted(name for name in sys.modules if name == "airflow" or name.startswith("airflow."))
    assert not left, f"names of Airflow stayed behind: {left}"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(build_end)
    config.pluginmanager.register(standstill)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    services.summary(terminalreporter)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A build that does not come to its end, for whatever reason, has said what failed until then."""
    if report.failed and services.in_ci() and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nfailed: {report.nodeid} ({report.when})\n{report.longreprtext}", flush=True)


#: The longest files. Where files are dealt out to several processes, one that came last would keep the others waiting.
LONGEST = (
    "test_dbt_up.py", "test_stream_poison_topics.py", "test_stream_fire.py", "test_docs.py", "test_dbt.py",
    "test_executor.py", "test_cdc_kills.py", "test_every_page.py", "test_executor_celery.py", "test_files_s3.py",
    "test_topic_kafka.py", "test_up.py", "test_demo.py", "test_tasks_of_users.py", "test_deliver.py",
    "test_stream_poison_messages.py", "test_source_databases.py", "test_stream_poison_broker.py",
    "test_topic_backpressure.py",
    "test_streams_on_kafka.py", "test_object_store.py", "test_topic_groups.py", "test_stream_property.py",
    "test_source_databases_faults.py", "test_parsing.py", "test_golden_errors.py", "test_redshift_copy.py",
    "test_singer.py", "test_stream_property_more.py", "test_crashes.py", "test_sigkill.py", "test_live_sources.py",
    "test_stream_poison_rebalance.py", "test_webhook_feeds.py", "test_up_streams.py", "test_bad_input.py",
    "test_cdc.py", "test_stream_destinations_up.py", "test_state.py", "test_crashes_first.py",
    "test_cdc_deaths.py", "test_cli_run.py", "test_singer_real.py", "test_stream_poison_login.py",
    "test_both_stores.py", "test_races.py", "test_data_pages.py", "test_attending.py", "test_login.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After the longest units: they say most in the least time, should the build's be over before the end."""

    def order(item: pytest.Item) -> int:
        if item.path.name in LONGEST:
            return LONGEST.index(item.path.name)
        return len(LONGEST) + (item.path.parent.name != "unit")

    items.sort(key=order)


def pytest_collection_finish() -> None:
    """What was imported stays, and need not be looked at by each collection; whole ones come between files only."""
    gc.freeze()
    gc.set_threshold(700, 10, 1_000_000)


def pytest_sessionfinish() -> None:
    """An interpreter that ends collects all, or libraries complain of what is left."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="module")
def own_garbage() -> Iterator[None]:
    """What the tests of a file leave behind ends with the file, while its servers are there, not in some other test.

    What is alive then (imports, caches, servers of the session) is not looked at again: a collection of a whole session
    takes a second, one of what a file has made a tenth.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_or_why() -> Iterator[Postgres | str]:
    """The session's PostgreSQL, or why it cannot start: found out once, and told by each test that needs it."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(running())
        except CannotStart as error:
            yield str(error)


@pytest.fixture
def postgres(postgres_or_why: Postgres | str, request: pytest.FixtureRequest) -> Postgres:
    """The session's PostgreSQL."""
    if isinstance(postgres_or_why, str):
        services.missing("PostgreSQL", postgres_or_why)
    assert isinstance(postgres_or_why, Postgres)
    services.note_used(request, "PostgreSQL", postgres_or_why.version)
    return postgres_or_why


@pytest.fixture(scope="session")
def mariadb_or_why() -> Iterator[MariaDB | str]:
    """The session's MariaDB, or why it cannot start."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(mariadb_harness.running())
        except mariadb_harness.CannotStart as error:
            yield str(error)


@pytest.fixture
def mariadb(mariadb_or_why: MariaDB | str, request: pytest.FixtureRequest) -> MariaDB:
    """The session's MariaDB."""
    if isinstance(mariadb_or_why, str):
        services.missing("MariaDB", mariadb_or_why)
    assert isinstance(mariadb_or_why, MariaDB)
    services.note_used(request, "MariaDB", mariadb_or_why.version)
    return mariadb_or_why


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """The session's S3 server."""
    with serving() as made:
        yield made


@pytest.fixture
def object_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the session's S3 server, where AWS's own tools look for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test advances."""
    return ManualClock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def backend(request: pytest.FixtureRequest) -> Postgres | None:
    """Runs a test twice: on a SQLite file (None) and on the session's PostgreSQL."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server
    services.note_used(request, "SQLite", sqlite3.sqlite_version)
    return None


@pytest.fixture
def empty_database(backend: Postgres | None, tmp_path: Path) -> str:
    """The URL of a database of the test's own, without any table."""
    return backend.new_database() if backend else f"sqlite:///{tmp_path / 'metadata.db'}"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file: to copy it takes 1 ms, to migrate one 50."""
    path = tmp_path_factory.mktemp("template") / "metadata.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def database(backend: Postgres | None, tmp_path: Path, sqlite_template: Path) -> Iterator[str]:
    """The URL of a migrated, empty database of the test's own, which keeps its schema."""
    if backend is None:
        yield f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'metadata.db')}"
    else:
        with backend.lend(_migrate) as url:
            yield url


def _migrate(url: str) -> None:
    with SqlMetadata(url, "project", ManualClock()) as store:
        store.migrate()


OpenStore: TypeAlias = Callable[..., SqlMetadata]


@pytest.fixture
def open_store(clock: ManualClock) -> Iterator[OpenStore]:
    """Opens stores that are closed after the test: `open_store(url, "project", lock_wait=...)`."""
    with contextlib.ExitStack() as stack:

        def open_one(url: str, project: str = "project", **options: Any) -> SqlMetadata:
            return stack.enter_context(SqlMetadata(url, project, clock, durable=False, **options))

        yield open_one


@pytest.fixture
def store(database: str, open_store: OpenStore) -> SqlMetadata:
    """A migrated, empty store."""
    return open_store(database)


@pytest.fixture
def redshift(postgres: Postgres, object_store: ObjectStore, request: pytest.FixtureRequest) -> Iterator[Any]:
    """An emulated Redshift: `harness.redshift.Redshift`."""
    from harness.redshift import emulating

    services.note_used(request, "Redshift, emulated over PostgreSQL", postgres.version)
    with emulating(postgres, object_store) as made:
        yield made
