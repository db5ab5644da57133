"""Versions of a table that a Singer tap sends as a whole, and which rows an ACTIVATE_VERSION message ends.

A tap that reads a whole table names a version in each record, and when it has sent all, activates that version: rows of
others are gone, or marked with the time; those that name none stay. What is gone does not come back by itself where its
version is activated again: its records have to be sent again. The archive has both in the names of its parts, so
that no part has to be read to know it:

    rows-000002-v1700000000000.jsonl.zst   records of that version
    activate-000003-v1700000000000.jsonl   here rows of all others end

Which batch comes first is told by its id: batches of a tap are a chain.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, islice

from tidemill.model.singer import ACTIVATIONS, MARK, ROWS, VERSION
from tidemill.model.table import BATCH_ID
from tidemill.plan.sql import literal, quote

#: Column of the times that `Marks.join` brings.
AT = "_ended_at"
_BATCH, _VERSION = "_ended_batch", "_ended_version"
_NAME = re.compile(rf"(?P<kind>{re.escape(ROWS)}|{re.escape(ACTIVATIONS)})\d+-v(?P<version>-?\d+)\.")


@dataclass(frozen=True, slots=True, order=True)
class Activation:
    """A version of a table that a batch has made the only one.

    Args:
        batch: its id.
        version: of which rows stay.
        at: when the batch was extracted.
    """

    batch: int
    version: int
    at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """Which rows activations have ended: each row that names a version, where a later batch activates another one.

    However many activations there were, two batches tell it: the last that activates anything, after which no row of
    another version is left, and the last that activates another version than that one does, which has ended all rows
    before it that name one.

    Args:
        last: the last activation.
        before: id of the last batch that activates another version than `last`; 0: none does.
    """

    last: Activation
    before: int = 0

    @classmethod
    def by(cls, activations: Sequence[Activation]) -> Ended | None:
        """What these have ended; None: there are none.

        Args:
            activations: in the order in which they came.
        """
        if not activations:
            return None
        last = activations[-1]
        return cls(last, max((one.batch for one in activations if one.version != last.version), default=0))

    def has(self, batch: int, version: int) -> bool:
        """Whether rows of that batch and version are ended."""
        return batch < self.before or (batch < self.last.batch and version != self.last.version)

    @property
    def condition(self) -> str:
        """The same in SQL, of a row."""
        batch, version = quote(BATCH_ID), quote(VERSION)
        other = f"({batch} < {self.last.batch} AND {version} <> {self.last.version})"
        if not self.before:
            return f"coalesce({other}, FALSE)"
        return f"coalesce({version} IS NOT NULL AND ({batch} < {self.before} OR {other}), FALSE)"


@dataclass(frozen=True, slots=True)
class Marks:
    """When rows were ended, by what a row says of itself: it can be told anew at any time, from nothing else.

    Args:
        times: batch and version of rows that are ended -> when.
    """

    times: Mapping[tuple[int, int], datetime]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int]], activations: Sequence[Activation]) -> Marks:
        """The marks of rows of those batches and versions.

        A row is ended by the first activation of a later batch that names another version.

        Args:
            rows: batch and version of all rows that there are.
            activations: in the order in which they came.
        """
        times: dict[tuple[int, int], datetime] = {}
        batches = [one.batch for one in activations]
        for batch, version in rows:
            later = islice(activations, bisect_right(batches, batch), None)
            by = next((one for one in later if one.version != version), None)
            if by is not None:
                assert by.at is not None
                times[batch, version] = by.at
        return cls(times)

    @property
    def join(self) -> str:
        """What a FROM goes on with: each row meets its time in the column `AT`."""
        if self.times:
            rows = ", ".join(
                f"(CAST('{batch}' AS BIGINT), CAST('{version}' AS BIGINT), {literal(at)})"
                for (batch, version), at in sorted(self.times.items())
            )
            times = f"(VALUES {rows})"
        else:
            times = "(SELECT CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS TIMESTAMPTZ) WHERE FALSE)"
        return (
            f" LEFT JOIN {times} AS ended({_BATCH}, {_VERSION}, {AT})"
            f" ON {_BATCH} = {quote(BATCH_ID)} AND {_VERSION} = {quote(VERSION)}"
        )

    @property
    def differs(self) -> str:
        """The condition, in SQL, that a row has another mark than it should."""
        return f"{quote(MARK)} IS DISTINCT FROM {AT}"


def version_ending(version: int | None) -> str:
    """What comes after the number in the name of a part of that version."""
    return "" if version is None else f"-v{version}"


def versions_of(names: Sequence[str]) -> list[int | None]:
    """The version of each part; None: its name has none."""
    return [int(found["version"]) if (found := _NAME.match(name)) else None for name in names]


def activated(names: Sequence[str]) -> list[int]:
    """The versions that parts activate, in order; one that follows on itself once."""
    found = [int(each["version"]) for name in names if (each := _NAME.match(name)) and each["kind"] == ACTIVATIONS]
    return [version for version, _ in groupby(found)]


def ended_within(names: Sequence[str]) -> set[int]:
    """Positions of the parts whose rows the same batch ends, by activating another version after them."""
    ended: set[int] = set()
    found = [(_NAME.match(name), at) for at, name in enumerate(names)]
    for each, at in found:
        if each is not None and each["kind"] == ACTIVATIONS:
            ended |= {
                i for other, i in found[:at]
                if other is not None and other["kind"] == ROWS and other["version"] != each["version"]
            }  # fmt: skip
    return ended
