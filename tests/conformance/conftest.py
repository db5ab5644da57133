"""Brokers, and consumers of them, that a session's tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness import rabbitmq, redis, services
from harness.consuming import consuming
from harness.executing import appears
from harness.programs import CannotStart

#: A broker's URL and version, or why it cannot start.
Broker: TypeAlias = tuple[str, str] | str


@pytest.fixture(scope="session")
def redis_or_why() -> Iterator[Broker]:
    """The session's Redis."""
    with contextlib.ExitStack() as stack:
        try:
            url, version, _ = stack.enter_context(redis.running())
            yield url, version
        except CannotStart as error:
            yield str(error)


@pytest.fixture(scope="session")
def rabbitmq_or_why() -> Iterator[Broker]:
    """The session's RabbitMQ; it takes 6 s to start."""
    with contextlib.ExitStack() as stack:
        try:
            url, version, _ = stack.enter_context(rabbitmq.running())
            yield url, version
        except CannotStart as error:
            yield str(error)


@pytest.fixture
def redis_url(redis_or_why: Broker, request: pytest.FixtureRequest) -> str:
    """The URL of the session's Redis."""
    return _url("Redis", redis_or_why, request)


@pytest.fixture
def rabbitmq_url(rabbitmq_or_why: Broker, request: pytest.FixtureRequest) -> str:
    """The URL of the session's RabbitMQ."""
    return _url("RabbitMQ", rabbitmq_or_why, request)


def _url(name: str, broker: Broker, request: pytest.FixtureRequest) -> str:
    if isinstance(broker, str):
        services.missing(name, broker)
    url, version = broker
    services.note_used(request, name, version)
    return url


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
