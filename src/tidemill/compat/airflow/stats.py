"""`Stats`: figures that a task's code tells. They stand in its log: metrics are the product's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from tidemill.authoring import registry

_log = logging.getLogger("tidemill.stats")


class Stats:
    """Figures by name; rates and tags are not kept."""

    @staticmethod
    def incr(stat: str, count: int = 1, rate: float = 1, *, tags: Any = None) -> None:
        """It is so many more."""
        _log.info("%s +%s", stat, count)

    @staticmethod
    def decr(stat: str, count: int = 1, rate: float = 1, *, tags: Any = None) -> None:
        """It is so many fewer."""
        _log.info("%s -%s", stat, count)

    @staticmethod
    def gauge(stat: str, value: float, rate: float = 1, delta: bool = False, *, tags: Any = None) -> None:
        """It is so much."""
        _log.info("%s %s", stat, value)

    @staticmethod
    def timing(stat: str, dt: float | timedelta, *, tags: Any = None) -> None:
        """It took so long: milliseconds, or a length of time."""
        seconds = dt.total_seconds() if isinstance(dt, timedelta) else dt / 1000
        _log.info("%s %.3f s", stat, seconds)

    @classmethod
    @contextmanager
    def timer(cls, stat: str = "", *_options: Any, tags: Any = None, **_named: Any) -> Iterator[None]:
        """What is done within takes so long."""
        begun = registry.now()
        try:
            yield
        finally:
            cls.timing(stat, registry.now() - begun)
