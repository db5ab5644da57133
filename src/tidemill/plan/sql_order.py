"""Whether the rows of a relation lie in an order already, as SQL text. Nothing here runs a statement."""
# ruff: noqa: S608 - the text is built of identifiers, all of them quoted

from __future__ import annotations

from collections.abc import Sequence

from tidemill.plan.sql import quote_all


def out_of_order(relation: str, columns: Sequence[str]) -> str:
    """One boolean, `disorder`: some row of `relation` comes after one that has more in `columns`, which have no nulls.

    A window without an order looks at the rows as they come, and holds none of them.
    """
    these = f"row({quote_all(columns)})"
    return (
        f"SELECT coalesce(bool_or(falls), FALSE) AS disorder "
        f"FROM (SELECT {these} < lag({these}) OVER () AS falls FROM {relation}) AS r"
    )
