"""Brokers, and consumers of them, that a session's tests share."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from harness import services
from harness.archiving import kept
from harness.brokers import Broker, rabbitmq_or_why, rabbitmq_url, redis_or_why, redis_url
from harness.consuming import consuming
from harness.executing import appears
from harness.postgres import Postgres
from harness.topics import Place, kafka_place, memory_place, sql_place
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.ports.topic import Partition
from tidemill.testing.clock import ManualClock

__all__ = ["consumer_of", "rabbitmq_or_why", "rabbitmq_url", "redis_or_why", "redis_url"]


#: What keeps the promises of the port `topic`.
TOPICS = ["memory", "sqlite", "past", "kafka", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=TOPICS)
def place(request: pytest.FixtureRequest) -> Place:
    """A broker, of each kind."""
    found: Place = request.getfixturevalue(f"{request.param}_topics")
    return found


@pytest.fixture
def memory_topics() -> Iterator[Place]:
    """Topics in memory."""
    with memory_place() as made:
        yield made


@pytest.fixture
def past_topics(sqlite_template: Path, tmp_path: Path) -> Iterator[Place]:
    """Topics that reach back into archives, of which there are none."""
    with kept("memory", sqlite_template, tmp_path) as a:

        def forget(_partition: Partition, _before: int) -> None:
            a.topics.tidy(a.clock.now())  # type: ignore[attr-defined]  # topics in memory

        place = Place(a.both, a.clock, forget)
        yield place
        place.close()


@pytest.fixture
def sqlite_topics(tmp_path: Path, sqlite_template: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Topics in a SQLite file."""
    services.note_used(request, "SQLite", sqlite3.sqlite_version)
    with sql_place(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'topics.db')}") as made:
        yield made


@pytest.fixture
def postgresql_topics(postgres: Postgres) -> Iterator[Place]:
    """Topics in the session's PostgreSQL."""
    with postgres.lend(migrate) as url, sql_place(url) as made:
        yield made


@pytest.fixture
def kafka_topics(kafka_servers: str) -> Iterator[Place]:
    """Topics of the session's Kafka."""
    with kafka_place(kafka_servers) as made:
        yield made


def migrate(url: str) -> None:
    """Make the tables of a database."""
    with SqlMetadata(url, "project", ManualClock()) as store:
        store.migrate()


@pytest.fixture(scope="session")
def consumer_of(
    tmp_path_factory: pytest.TempPathFactory, redis_or_why: Broker, rabbitmq_or_why: Broker
) -> Iterator[Callable[[str, dict[str, Any]], str]]:
    """Starts a consumer with some options where there is none; returns the project whose jobs it takes.

    It asks for all brokers, so that they end after the consumers.
    """
    projects: dict[str, str] = {}
    servers: list[BaseProcess] = []
    with contextlib.ExitStack() as stack:

        def find(url: str, options: dict[str, Any]) -> str:
            told = {
                name: getattr(value, "total_seconds", lambda value=value: value)() for name, value in options.items()
            }
            key = f"{url} {sorted(told.items())}"
            if key not in projects:
                projects[key] = f"tests{len(projects)}"
                note: Path = tmp_path_factory.mktemp("consumer") / "pids"
                servers.append(stack.enter_context(consuming(url, note, **told, project=projects[key])))
                appears(note)
            return projects[key]

        yield find
        for server in servers:
            server.terminate()
