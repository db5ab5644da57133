"""What declarations return: handles to a source or a table, usable as functions, for checks and for previews."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.authoring import registry
from tidemill.authoring.place import here
from tidemill.model.errors import DefinitionError, UserError
from tidemill.model.expectation import Expectation, expect

if TYPE_CHECKING:
    from tidemill.authoring.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Whole:
    """Marks a parameter that reads a whole table; `table` is empty where the parameter's name names it."""

    table: str | None = None
    partition: str | None = None
    offset: str | None = None
    until: Any = None


def whole(
    table: str | None = None, *, partition: str | None = None, offset: str | None = None, until: Any = None
) -> Any:
    """Default of a parameter that reads a whole table instead of this run's batch.

    Args:
        table: `name` of this pipeline or `pipeline.name`; None: the parameter's own name.
        partition: as the `bootstrap` of a stream: the column that says in which partition a row's message was.
        offset: likewise, at which offset.
        until: as the `bootstrap` of a stream: rows from before this time count, and messages from then on.
    """
    return Whole(table, partition, offset, until)


def whole_name(default: object) -> str | None:
    """The table that a parameter's default names; "" where the parameter does; None: it reads the batch.

    Raises:
        DefinitionError: it says where a past ends, which means nothing here.
    """
    if not isinstance(default, Whole):
        return None
    if (default.partition, default.offset, default.until) != (None, None, None):
        raise DefinitionError(
            "tm.whole(): partition, offset and until are for the bootstrap of a stream.",
            where=here(),
            hint="frame.filter(...) in the function reads a part of a table",
        )
    return default.table or ""


class Handle:
    """A named table of a pipeline: what a source or a transformation returns."""

    def __init__(self, pipeline: Pipeline, name: str, function: Callable[..., Any] | None = None) -> None:
        self.pipeline = pipeline
        self.name = name
        self.function = function

    def expect(
        self,
        *checks: Any,
        name: str | None = None,
        severity: str = "error",
        mostly: float = 1.0,
        max_failed: int | None = None,
    ) -> Handle:
        """Add checks: expectations (`tm.not_null("id")`) or boolean expressions (`tm.col("x") > 0`).

        Args:
            checks: what must hold.
            name: a name for a single expression.
            severity: "error" fails the run, "warn" is only reported; for expressions.
            mostly: the least share of rows that must pass; for expressions.
            max_failed: the most rows that may fail; for expressions.
        """
        self._expect(
            [
                c
                if isinstance(c, Expectation)
                else expect(c, name=name, severity=severity, mostly=mostly, max_failed=max_failed)
                for c in checks
            ]
        )
        return self

    def _expect(self, checks: list[Expectation]) -> None:
        self.pipeline.expect(self.name, checks)

    def preview(self, when: str | None = None, rows: int = 10) -> Any:
        """The first rows that this table would get for an interval; nothing is published."""
        return self.pipeline.preview(self.name, when, rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pipeline.name}.{self.name})"


class Source(Handle):
    """A source, and the table that it is loaded into."""


class Table(Handle):
    """A table made by a function or by SQL. Calling it with plain frames runs the function on them (for tests)."""

    def __call__(self, *frames: Any, **named: Any) -> Any:
        """Run the user's function on Polars or pandas frames and return a Polars frame."""
        if self.function is None:
            raise UserError(
                f'Table "{self.name}" is made by SQL and cannot be called.', hint=f"{self.name}.preview(interval)"
            )
        return registry.runner().call(self.function, frames, named)
