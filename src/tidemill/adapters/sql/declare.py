"""What the tables of the metadata database are declared with: their names' rules and columns that recur."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, MetaData, Text

from tidemill.adapters.sql.columns import BigId, Moment

#: Deterministic names, so that a later migration can alter a constraint on both databases.
METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def serial() -> Column[int]:
    """The key of a table whose rows are numbered."""
    # With `sqlite_autoincrement` on its table an id is never given out twice, also after rows were deleted.
    return Column("id", BigId, primary_key=True)


def text(name: str, **options: Any) -> Column[str]:
    """Text that is always there."""
    return Column(name, Text, nullable=False, **options)


def to(name: str, target: str, **options: Any) -> Column[int]:
    """A reference to another table; there unless `nullable`."""
    options.setdefault("nullable", False)
    return Column(name, BigId, ForeignKey(target), **options)


def moment(name: str, **options: Any) -> Column[Any]:
    """A time."""
    return Column(name, Moment, **options)


def interval() -> tuple[Column[Any], ...]:
    """A data interval with its zone; empty where there is none."""
    return moment("interval_start"), moment("interval_end"), Column("interval_zone", Text)
