"""Fixtures of brokers: a Redis, a RabbitMQ and a Kafka for a test process, started when a test first asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import pytest

from harness import kafka, rabbitmq, redis, services
from harness.programs import CannotStart

#: The URL and version of a broker, or why there is none.
Broker: TypeAlias = "tuple[str, str] | str"


@pytest.fixture(scope="session")
def redis_or_why() -> Iterator[Broker]:
    """The session's Redis. Who lets go of its queues waits for an open question, which takes a second by default."""
    from kombu.transport.redis import Transport

    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(Transport, "brpop_timeout", 0.1)
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


@pytest.fixture(scope="session")
def kafka_or_why() -> Iterator[Broker]:
    """The session's Kafka, of one broker; it takes 2 s to start."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(kafka.running()).servers, kafka.VERSION
        except CannotStart as error:
            yield str(error)


@pytest.fixture
def kafka_servers(kafka_or_why: Broker, request: pytest.FixtureRequest) -> str:
    """The address of the session's Kafka."""
    return _url("Kafka", kafka_or_why, request)


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
