"""Where a frame's rows come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["batch", "whole", "literal", "topic"]
_SCOPES: Mapping[Scope, str] = {
    "batch": "rows of this run's batch",
    "whole": "the whole table",
    "literal": "rows in memory",
    "topic": "messages as they come",
}


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """Where a frame's rows come from.

    Args:
        name: the table or task that they come from; for rows in memory any name.
        scope: `batch` (what this run's batch brings), `whole` (the table as of the fork), `literal`, or `topic`.
        data: a literal's rows: a Polars, pandas or Arrow table; of a topic its description.
        system_columns: whether `_batch_id` and `_loaded_at` are among the columns.
    """

    name: str
    scope: Scope = "batch"
    data: Any = None
    system_columns: bool = False

    @property
    def key(self) -> str:
        """By what name an engine is given this input's rows: the name, or `whole(<name>)`."""
        return f"whole({self.name})" if self.scope == "whole" else self.name

    def __str__(self) -> str:
        return f'input "{self.name}" ({_SCOPES[self.scope]})'
