"""Public helpers for tests: `StreamTest`, manual clock, fault injection, conformance suites. Loaded when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.testing.clock import ManualClock as ManualClock
    from tidemill.testing.stream import StreamTest as StreamTest

_PUBLIC = {
    "ManualClock": "tidemill.testing.clock",
    "StreamTest": "tidemill.testing.stream",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f'tidemill.testing has no "{name}"')
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)
