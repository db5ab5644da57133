"""Versions of a table that a Singer tap sends as a whole, and which rows an ACTIVATE_VERSION message ends.

A tap that reads a whole table names a version in each record, and when it has sent all, activates that version: rows of
others are gone; those that name none stay. The archive has both in the names of its parts, so that no part has to be
read to know it:

    rows-000002-v1700000000000.jsonl.zst   records of that version
    activate-000003-v1700000000000.jsonl   here rows of all others end

Which batch comes first is told by its id: batches of a tap are a chain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.model.singer import ACTIVATIONS, ROWS, VERSION
from tidemill.model.table import BATCH_ID
from tidemill.plan.sql import quote

_NAME = re.compile(rf"(?P<kind>{re.escape(ROWS)}|{re.escape(ACTIVATIONS)})\d+-v(?P<version>-?\d+)\.")


@dataclass(frozen=True, slots=True, order=True)
class Activation:
    """The version of a table that a batch has made the only one.

    Args:
        batch: its id.
        version: of which rows stay.
    """

    batch: int
    version: int

    @property
    def ends(self) -> str:
        """The condition, in SQL, that a row is ended by it: it is of an earlier batch, and names another version."""
        return f"coalesce({quote(BATCH_ID)} < {self.batch} AND {quote(VERSION)} <> {self.version}, FALSE)"


def version_ending(version: int | None) -> str:
    """What comes after the number in the name of a part of that version."""
    return "" if version is None else f"-v{version}"


def versions_of(names: Sequence[str]) -> list[int | None]:
    """The version of each part; None: its name has none."""
    return [int(found["version"]) if (found := _NAME.match(name)) else None for name in names]


def activated(names: Sequence[str]) -> int | None:
    """The version that parts activate last; None: they activate none."""
    found = [int(each["version"]) for name in names if (each := _NAME.match(name)) and each["kind"] == ACTIVATIONS]
    return found[-1] if found else None


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
