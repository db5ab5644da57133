"""Typing a block of CSV: columns of text become columns of what is known of them, or widen what is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.decoded import array_of
from tidemill.adapters.arrow.types import to_arrow_type
from tidemill.model.table import OnMisfit
from tidemill.model.types import STRING, UNKNOWN, List, Map, Struct, Type
from tidemill.plan.evolve import settled
from tidemill.plan.known import Differs, Known, KnownColumn


class Notation(Protocol):
    """How texts are typed: the module `text`, or `commas` where numbers have a decimal comma."""

    def parse(self, texts: pa.Array, kind: Type, *, lenient: bool = False) -> tuple[pa.Array, pa.Array | None]:
        """The values that texts stand for, and where one stands for none."""
        ...

    def column_type(self, texts: pa.Array, *, numbers: bool) -> Type:
        """The narrowest type that holds all texts."""
        ...

    def type_beside(self, text: str, kind: Type, /) -> Type:
        """The type of a text that stands in a column of type `kind`."""
        ...


class Typing:
    """One attempt to type a block's columns of text by what is known.

    Args:
        names: the file's columns.
        known: the columns so far.
        texts: the block's rows, every column as text.
        places: which record of the block each row is.
        errors: why records are rejected; filled here.
        notation: how texts are typed.
        empties: there are quoted empty texts.
    """

    def __init__(
        self,
        names: Sequence[str],
        known: Known,
        texts: pa.Table,
        places: Sequence[int],
        errors: dict[int, str],
        notation: Notation,
        *,
        empties: bool,
    ) -> None:
        self._names = names
        self._known = known
        self._texts = texts
        self._places = places
        self._errors = errors
        self._notation = notation
        self._present = frozenset(names)
        self._empties = empties

    def run(self) -> tuple[list[pa.Array], Known]:
        """The columns of `Known.schema`, and what is known now; the columns count only if that has not changed."""
        after = self._known
        made: dict[str, pa.Array] = {}
        for column in self._known.columns:
            if column.base is not None:
                made[column.name], after = self._based(column, after)
        for name in self._names:
            if name not in self._known.by_name:
                self._unknown(name)
        if after != self._known:
            return [], after
        offers: list[tuple[str, Type]] = []
        for column in self._known.columns:
            if column.base is None:
                made[column.name], wider = self._open(column)
                if wider is not None:
                    offers.append((column.name, wider))
        after, _ = after.offer(offers)
        return [made[column.name] for column in self._known.columns if settled(column.type) is not None], after

    def _column(self, name: str, kind: Type) -> pa.Array:
        """A column's texts; quoted empty ones are nulls unless it holds text: where all is quoted, no other null is."""
        if name not in self._present:
            return pa.nulls(self._texts.num_rows, pa.string())
        texts = array_of(self._texts.column(name))
        if kind == STRING or not self._empties:
            return texts
        return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)

    def _reject(self, mask: pa.Array, error: Callable[[int], str]) -> None:
        for row in pc.indices_nonzero(mask).to_pylist():
            self._errors.setdefault(self._places[row], error(row))

    def _based(self, column: KnownColumn, known: Known) -> tuple[pa.Array, Known]:
        """A column that a table has, or that is declared: what does not fit widens it as Iceberg allows, or goes."""
        texts = self._column(column.name, column.type)
        kind = settled(column.type) or STRING
        typed, bad = self._parse(texts, kind, column.declared)
        if bad is not None:
            wrong = pc.unique(texts.filter(bad)).to_pylist()
            refused = []
            for text in wrong:
                known, _ = known.offer([(column.name, self._notation.type_beside(text, kind))])
                if known.get(column.name) == column.type:
                    refused.append(text)
            gone = pc.is_in(texts, pa.array(refused, pa.string()))
            self._reject(
                pc.and_(bad, gone), lambda row: f"{column.name}: {_shown(texts[row].as_py())} does not fit {kind}"
            )
        if not column.nullable:
            missing = texts.is_null()
            self._reject(missing, lambda row: f"{column.name}: null, but the column is declared not null")
        return typed, known

    def _unknown(self, name: str) -> None:
        """A column that the contract does not let in: only what it holds matters."""
        if self._known.on_misfit == OnMisfit.DISCARD_COLUMNS:
            return
        texts = self._column(name, UNKNOWN)
        if self._known.on_misfit == OnMisfit.FREEZE and texts.null_count < len(texts):
            raise Differs([name])
        self._reject(texts.is_valid(), lambda row: f'unknown column "{name}"')

    def _open(self, column: KnownColumn) -> tuple[pa.Array, Type | None]:
        """A column that no table has yet, and the type that its texts, those of rejected rows apart, widen it to."""
        if column.name not in self._present:
            return pa.nulls(self._texts.num_rows, to_arrow_type(settled(column.type) or STRING)), None
        texts = self._column(column.name, column.type)
        typed, bad = (texts, texts.is_valid()) if column.type == UNKNOWN else self._parse(texts, column.type, False)
        if bad is None:
            return typed, None
        if self._errors:
            bad = pc.and_(bad, pa.array([place not in self._errors for place in self._places], pa.bool_()))
        return typed, self._notation.column_type(texts.filter(bad), numbers=True)

    def _parse(self, texts: pa.Array, kind: Type, lenient: bool) -> tuple[pa.Array, pa.Array | None]:
        if isinstance(kind, Struct | List | Map):
            return pa.nulls(len(texts), to_arrow_type(kind)), texts.is_valid()
        return self._notation.parse(texts, kind, lenient=lenient)


def _shown(text: str) -> str:
    return f'"{text}"' if len(text) <= 60 else f'"{text[:60]}..."'
