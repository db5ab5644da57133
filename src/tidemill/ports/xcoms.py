"""Port `xcoms`: what tasks of a run hand to each other. A store of the metadata database; tests have one in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tidemill.model.graph import WHOLE

#: The key of what a task returns.
RETURNED = "return_value"
#: The key under which it is noted that what a deferred task waited for has happened: an object, with an `error` where
#: the trigger failed, and the `value` that it returned, where that is JSON. Nothing is there when the time was
#: over before.
FIRED = "_fired"


class XComs(Protocol):
    """Values by run, task, map index and key; as JSON text, so that nobody has to load what he only hands on.

    `all`, `count` and `nth` are about the instances of mapped tasks; a value of a task as a whole is not among them.
    """

    def get(self, run_id: int, task: str, key: str = RETURNED, map_index: int = WHOLE) -> str | None:
        """One value; None where there is none."""
        ...

    def all(self, run_id: int, task: str, key: str = RETURNED) -> list[tuple[int, str]]:
        """The values of every instance of a mapped task: map index and value, in the order of the indexes."""
        ...

    def count(self, run_id: int, task: str, key: str = RETURNED) -> int:
        """How many instances of a mapped task have a value."""
        ...

    def nth(self, run_id: int, task: str, at: int, key: str = RETURNED) -> str | None:
        """One of the values that `all` gives, counted from 0; None beyond the last."""
        ...

    def put(self, run_id: int, task: str, map_index: int, values: Iterable[tuple[str, str]]) -> None:
        """Keep keys and values; a key that is there already is replaced."""
        ...

    def clear(self, run_id: int, task: str, map_index: int | None = None) -> None:
        """Forget what a task handed over, or one instance of it: it is about to run again."""
        ...
