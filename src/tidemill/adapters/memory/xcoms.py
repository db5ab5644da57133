"""Port `xcoms` in memory, for tests and for `DAG.test`."""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.model.graph import WHOLE
from tidemill.ports.xcoms import RETURNED


class MemoryXComs:
    """Values in a dictionary, as text: they are encoded and decoded as everywhere else."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, str, str], dict[int, str]] = {}

    def get(self, run_id: int, task: str, key: str = RETURNED, map_index: int = WHOLE) -> str | None:
        """One value; None where there is none."""
        return self._values.get((run_id, task, key), {}).get(map_index)

    def all(self, run_id: int, task: str, key: str = RETURNED) -> list[tuple[int, str]]:
        """The values of every instance of a mapped task, in the order of the indexes."""
        found = self._values.get((run_id, task, key), {})
        return sorted((index, value) for index, value in found.items() if index != WHOLE)

    def count(self, run_id: int, task: str, key: str = RETURNED) -> int:
        """How many instances of a mapped task have a value."""
        return len(self.all(run_id, task, key))

    def nth(self, run_id: int, task: str, at: int, key: str = RETURNED) -> str | None:
        """One of the values that `all` gives."""
        found = self.all(run_id, task, key)
        return found[at][1] if at < len(found) else None

    def put(self, run_id: int, task: str, map_index: int, values: Iterable[tuple[str, str]]) -> None:
        """Keep keys and values."""
        for key, value in values:
            self._values.setdefault((run_id, task, key), {})[map_index] = value

    def clear(self, run_id: int, task: str, map_index: int | None = None) -> None:
        """Forget what a task handed over."""
        for (run, known, _), found in self._values.items():
            if run == run_id and known == task:
                for index in list(found) if map_index is None else [map_index]:
                    found.pop(index, None)
