"""Port `queries` on Amazon Redshift, by its driver, which holds a whole answer in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tidemill.adapters.redshift.connection import opened
from tidemill.model.types import BOOLEAN, DATE, DOUBLE, FLOAT, INT, LONG, STRING, TIMESTAMP, TIMESTAMPTZ, Decimal, Type
from tidemill.ports.queries import Answer

#: Types by their OIDs; all others are text.
_TYPES: dict[int, Type] = {16: BOOLEAN, 21: INT, 23: INT, 20: LONG, 26: LONG, 700: FLOAT, 701: DOUBLE, 1082: DATE,
                           1114: TIMESTAMP, 1184: TIMESTAMPTZ}  # fmt: skip
_NUMERIC = 1700


class RedshiftQueries:
    """A cluster, or a workgroup.

    Args:
        parts: what the driver takes: host, port, user, password, database ...
    """

    dialect = "redshift"

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts

    @contextmanager
    def ask(self, sql: str, most: int | None) -> Iterator[Answer]:
        """Run one query."""
        with opened(self._parts) as cluster:
            cluster.run("BEGIN READ ONLY")
            described, rows = cluster.described(sql, most)
            columns = tuple((name, _type(oid, modifier)) for name, oid, modifier in described)
            kinds = [kind for _, kind in columns]
            yield Answer(columns, (
                [str(v) if kind == STRING and v is not None else v for v, kind in zip(row, kinds, strict=True)]
                for row in rows
            ))  # fmt: skip


def _type(oid: int, modifier: int) -> Type:
    if oid == _NUMERIC and modifier > 4:
        precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0xFFFF
        return Decimal(precision, scale) if precision <= 38 else STRING
    return _TYPES.get(oid, STRING)
