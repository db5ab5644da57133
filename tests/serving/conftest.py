"""Installations for tests: on SQLite and on PostgreSQL, ended when the test is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.brokers import redis_or_why, redis_url
from harness.installation import Installation

__all__ = ["install", "install_on", "redis_or_why", "redis_url"]

Install = Callable[..., Installation]


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    made: list[Installation] = []

    def one(url: str | None = None, **files: str) -> Installation:
        made.append(Installation(tmp_path / f"project{len(made)}", url, **files))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def install_on(install: Install, empty_database: str) -> Install:
    """The same on both databases."""
    url = empty_database if empty_database.startswith("postgres") else None
    return lambda **files: install(url, **files)
