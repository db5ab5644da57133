"""What declarations return: handles to a source or a table, usable as functions, for checks and for previews."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.authoring import registry
from tidemill.model.errors import UserError
from tidemill.model.expectation import Expectation, expect

if TYPE_CHECKING:
    from tidemill.authoring.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Whole:
    """Marks a parameter that reads a whole table; `table` is empty where the parameter's name names it."""

    table: str | None = None


def whole(table: str | None = None) -> Any:
    """Default of a parameter that reads a whole table instead of this run's batch.

    Args:
        table: `name` of this pipeline or `pipeline.name`; None: the parameter's own name.
    """
    return Whole(table)


def whole_name(default: object) -> str | None:
    """The table that a parameter's default names; "" where the parameter does; None: it reads the batch."""
    return (default.table or "") if isinstance(default, Whole) else None


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
        self.pipeline.expect(
            self.name,
            [
                c
                if isinstance(c, Expectation)
                else expect(c, name=name, severity=severity, mostly=mostly, max_failed=max_failed)
                for c in checks
            ],
        )
        return self

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
