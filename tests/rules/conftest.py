"""What the tests of the twelve rules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project on embedded defaults."""
    made = Project(tmp_path)
    yield made
    made.close()


class Once:
    """Calls a function at its first use only: what happens in the middle of the first attempt."""

    def __init__(self, happen: Callable[[], Any]) -> None:
        self._happen: Callable[[], Any] | None = happen

    def __call__(self) -> None:
        happen, self._happen = self._happen, None
        if happen is not None:
            happen()


@pytest.fixture
def once() -> type[Once]:
    """See `Once`."""
    return Once


def feed(p: Pipeline, rows: Callable[[Any], list[dict[str, Any]]], name: str = "orders", **options: Any) -> None:
    """Declare an interval source that gives `rows(interval)`."""

    @p.source(name=name, **options)
    def source(interval: Any) -> Iterator[dict[str, Any]]:
        yield from rows(interval)


@pytest.fixture
def declare_feed() -> Callable[..., None]:
    """See `feed`."""
    return feed
