"""Port `asked`: what commands ask of an installation's lake and streams, here or by its server.

The promises are those of port `installation`. Facts have the names that `--json` and the API have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidemill.model.json_values import jsonable

#: What is told of a thing, by name.
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The first rows of a result, and how many it has in all."""

    #: Name -> type, as Arrow calls it.
    columns: dict[str, str]
    rows: list[tuple[Any, ...]]
    total: int

    def objects(self) -> list[dict[str, Any]]:
        """The rows as JSON objects."""
        return [jsonable(dict(zip(self.columns, row, strict=True))) for row in self.rows]


class AskedLake(Protocol):
    """Its branches, tables, batches, and results of checks."""

    def branches(self, *, everything: bool) -> Facts:
        """{"branches": of these those of runs only with `everything`, "hidden": how many are not listed}."""
        ...

    def create(self, name: str, source: str, *, tag: bool) -> Facts:
        """Make a branch, or a tag, of `source` as it is now; gives it, with the number of its "tables".

        Raises:
            UserError: nothing can be called so.
            UnknownName: there is no `source`.
            Refused: there is one of that name.
        """
        ...

    def drop(self, name: str) -> None:
        """Drop a branch or a tag. Raises UnknownName, Refused: it is main, or a run writes it."""
        ...

    def diff(self, name: str, table: str | None, limit: int) -> Facts:
        """What a branch changed, with up to `limit` rows of each kind of a table. Raises UnknownName, Refused."""
        ...

    def merge(self, name: str) -> Facts:
        """Put a branch's changes onto main: {"done", "tables", "views"}. Raises UnknownName, Conflict, Refused."""
        ...

    def revert(self, batch_id: int) -> Facts:
        """Undo a batch; gives and raises as `merge`."""
        ...

    def tables(self, ref: str) -> list[Facts]:
        """Tables and views of a ref, by name, also the inner ones. Raises UnknownName."""
        ...

    def table(self, text: str, ref: str, limit: int) -> tuple[Facts, Head]:
        """One with "branch" and "schema", and its first rows. Raises UnknownName, UserError."""
        ...

    def failing(self, text: str, ref: str, limit: int) -> tuple[Facts, list[Head | None]]:
        """{"branch", "table", "failed_checks"}, and rows that failed each; None: it is not about rows."""
        ...

    def history(self, text: str, ref: str, limit: int | None) -> Facts:
        """{"branch", "table", "snapshots": newest first, "total"}. Raises UnknownName, UserError: it is a view."""
        ...

    def batches(self, pipeline: str | None, limit: int | None) -> list[Facts]:
        """Batches, newest first. Raises UnknownName: there is none of that pipeline."""
        ...

    def batch(self, batch_id: int) -> Facts:
        """Everything about one. Raises UnknownName."""
        ...

    def failed(self) -> list[Facts]:
        """Batches that wait for a repair, newest failure first: {"batch_id", "branch"}."""
        ...

    def results(self, table: str | None, name: str | None, limit: int | None) -> list[Facts]:
        """Results of checks, newest first: of one table, `pipeline.table`, of one check."""
        ...

    def anomalies(self) -> list[Facts]:
        """Figures of tables and checks of which the last run has told an anomaly, of the newest run first."""
        ...


class AskedStreams(Protocol):
    """Its streams; a name is `pipeline.stream`, or the stream's alone where only one is called so."""

    def listed(self) -> list[Facts]:
        """All of them."""
        ...

    def one(self, name: str) -> Facts:
        """One with its topology and processes. Raises UnknownName."""
        ...

    def lag(self, name: str | None) -> dict[str, list[Facts]]:
        """What waits in each partition, of one or all. Raises UnknownName."""
        ...

    def letters(self, name: str, *, late: bool) -> Facts:
        """{"stream", "topic", "letters": oldest first}. Raises UnknownName."""
        ...

    def redrive(
        self, name: str, offsets: Sequence[int], edits: Mapping[int, bytes], *, again: bool, each: bool, dry_run: bool
    ) -> Facts:
        """Send letters again; no offsets: all that were not sent yet.

        Args:
            name: of the stream.
            offsets: of the letters.
            edits: values to send instead, by offset.
            again: also those that were sent again before.
            each: leave out those that cannot be sent; else none is sent where one cannot be.
            dry_run: only look what would be sent.

        Returns:
            {"stream", "offsets": of what is sent, "refused": [{"offset", "error"}]: what is left out}

        Raises:
            UnknownName, Refused, DataError, Fenced.
        """
        ...

    def feed(self, topic: str, lines: Sequence[bytes], key: Sequence[str], *, strict: bool) -> int:
        """Send lines of JSON to a topic, all or none; how many. `strict` refuses those that do not fit.

        Raises:
            UnknownName: there is no such topic.
            DataError: a line does not fit.
            LimitError: they are more than is taken at once.
        """
        ...

    def topics(self) -> list[Facts]:
        """All topics that there are, and those that are declared, also streams' own."""
        ...

    def peek(self, topic: str, last: int) -> list[Facts]:
        """The last messages of a topic, oldest first; content that is no text is bytes.

        Raises:
            UnknownName: there is no such topic.
            LimitError: they are more than is given at once.
        """
        ...

    def follow(self, topic: str) -> Iterator[Facts | None]:
        """Messages that come from now on, without an end; None now and then, so that whoever asks may stop.

        Raises:
            UnknownName: there is no such topic.
        """
        ...

    def sources(self) -> list[Facts]:
        """What feeds topics, and how far it is."""
        ...

    def refeed(self, topic: str) -> Facts | None:
        """Have a topic's source begin anew; gives {"source", "messages"} of before, None: it has fed nothing yet.

        Raises UnknownName: no topic of that name has a source.
        """
        ...

    def pause(self, name: str, *, paused: bool) -> str:
        """Let no process work on it, or let them again; gives its full name. Raises UnknownName."""
        ...

    def state(self, name: str) -> str:
        """How it stands: `paused` when the last process has let go, until then `pausing`. Raises UnknownName."""
        ...

    def preview_reset(self, name: str, to: str) -> Facts:
        """{"stream", "positions", "cleared", "stores"}. Raises UnknownName, UserError: `to` is no place."""
        ...

    def reset(self, name: str, to: str) -> None:
        """Do it. Raises as `preview_reset`, and Busy: it runs."""
        ...
