"""What is known of a feed's columns so far, and what the contract says to values that do not fit them.

A decoder offers the types that it meets; `Known` answers with its successor, or refuses. It is a frozen value, so a
block may be parsed ahead with what was known then, and again if more is known by its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from tidemill.model.errors import ContractError
from tidemill.model.table import BATCH_ID, LOADED_AT, Column, Contract, OnMisfit, Schema
from tidemill.model.types import LONG, UNKNOWN, List, Map, Struct, Type
from tidemill.plan.evolve import SMALL, join, join_ranked, misplaced, settled, widens

#: Names that only Tidemill writes.
SYSTEM_NAMES = frozenset((BATCH_ID, LOADED_AT))


class Differs(Exception):
    """Raised under `freeze` by the first data that does not fit. The message is which columns."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(", ".join(sorted(names)))


@dataclass(frozen=True, slots=True)
class KnownColumn:
    """A column as it is known now.

    Args:
        name: as the data spells it.
        type: the join of everything met; may hold `SMALL` and `unknown` parts.
        base: the type in the table, or the declared one; it changes only as Iceberg widens. None: free to change.
        declared: the contract fixes the type: it never changes.
        nullable: False where a null is a misfit.
    """

    name: str
    type: Type
    base: Type | None = None
    declared: bool = False
    nullable: bool = True


@dataclass(frozen=True)
class Known:
    """The columns known so far, in order of first appearance, and the rule for what does not fit.

    Args:
        columns: see `KnownColumn`.
        on_misfit: the contract's rule.
        closed: columns beyond these are misfits (the table exists or columns are declared, and the rule is not
            `evolve`).
        ranked: structs and lists will be taken apart, so that what nests keeps its place (`join_ranked`).
    """

    columns: tuple[KnownColumn, ...] = ()
    on_misfit: OnMisfit = OnMisfit.EVOLVE
    closed: bool = False
    ranked: bool = False

    @classmethod
    def start(cls, table: Schema | None, found: Schema, contract: Contract) -> Known:
        """What is known before the first byte.

        Args:
            table: the table's columns; None where there is no table yet.
            found: what an earlier pass over the same data found.
            contract: the declared columns and the rule.

        Raises:
            ContractError: a declared column contradicts the table.
        """
        columns: dict[str, KnownColumn] = {}
        for column in (*(table or ()), *contract.columns):
            if column.name not in SYSTEM_NAMES:
                columns[column.name] = _based(columns.get(column.name), column, contract)
        for column in found:
            old = columns.get(column.name)
            if old is None:
                columns[column.name] = KnownColumn(column.name, relaxed(column.type))
            elif not old.declared:
                columns[column.name] = replace(old, type=join(old.type, relaxed(column.type)))
        fixed = table is not None or len(contract.columns) > 0
        return cls(tuple(columns.values()), contract.on_misfit, fixed and contract.on_misfit != OnMisfit.EVOLVE)

    @classmethod
    def nested(cls, columns: Schema) -> Known:
        """What is known of records that will be taken apart: no table has them, so that all of it may widen."""
        return cls(tuple(KnownColumn(column.name, relaxed(column.type)) for column in columns), ranked=True)

    @cached_property
    def by_name(self) -> Mapping[str, KnownColumn]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    @cached_property
    def by_folded(self) -> Mapping[str, str]:
        """Names by their lower-case form, to find those that differ only in case."""
        return {column.name.lower(): column.name for column in self.columns}

    def get(self, name: str) -> Type:
        """The type of a column; `unknown` where there is none."""
        column = self.by_name.get(name)
        return UNKNOWN if column is None else column.type

    def offer(self, types: Iterable[tuple[str, Type]]) -> tuple[Known, frozenset[str]]:
        """Tell which types the data holds, by column.

        Returns:
            What is known now, and the columns whose type was refused. A column that the rule drops
            (`discard_columns`) is taken in without being added.

        Raises:
            Differs: a refusal under `freeze`.
        """
        changed: dict[str, KnownColumn] = {}
        refused: set[str] = set()
        for name, kind in types:
            old = changed.get(name) or self.by_name.get(name)
            if old is not None:
                kind = _within(kind, old.type) if self.closed and self.on_misfit == OnMisfit.DISCARD_COLUMNS else kind
                joined = self.join(old.type, kind)
                if self.ranked and misplaced(old.type, kind):
                    refused.add(name)
                elif joined != old.type and (new := self._widened(old, joined)) is not old:
                    if new is None:
                        refused.add(name)
                    else:
                        changed[name] = new
            elif not self.closed:
                changed[name] = KnownColumn(name, kind)
            elif settled(kind) is not None and self.on_misfit != OnMisfit.DISCARD_COLUMNS:
                refused.add(name)
        if refused and self.on_misfit == OnMisfit.FREEZE:
            raise Differs(refused)
        if not changed:
            return self, frozenset(refused)
        kept = tuple(changed.pop(c.name, c) for c in self.columns)
        return replace(self, columns=(*kept, *changed.values())), frozenset(refused)

    def join(self, a: Type, b: Type) -> Type:
        """The type that holds two, by the rule for these columns."""
        return join_ranked(a, b) if self.ranked else join(a, b)

    def _widened(self, old: KnownColumn, joined: Type) -> KnownColumn | None:
        """The column with type `joined`, the column itself where that says nothing new, or None if it may not be."""
        if old.base is None:
            return replace(old, type=joined)
        if old.declared or self.closed:
            return old if settled(joined) == settled(old.type) else None
        return replace(old, type=joined) if widens(old.base, joined) else None

    @property
    def schema(self) -> Schema:
        """The columns as a table can store them; those that have held only nulls are left out."""
        return Schema(
            tuple(
                Column(column.name, kind, column.nullable)
                for column in self.columns
                if (kind := settled(column.type)) is not None
            )
        )

    @property
    def found(self) -> Schema:
        """Everything known, as `start` takes it for another pass."""
        return Schema(tuple(Column(column.name, column.type) for column in self.columns))

    def unfixed(self) -> Known:
        """The same columns with nothing known of them, to survey what the data holds by itself."""
        return Known(tuple(KnownColumn(column.name, UNKNOWN) for column in self.columns))

    def follows(self, emitted: Mapping[str, Type]) -> bool:
        """Whether rows that went out typed as `emitted` may stay as they are, knowing this now."""
        return all(widens(kind, self.get(name)) for name, kind in emitted.items())


def _based(old: KnownColumn | None, column: Column, contract: Contract) -> KnownColumn:
    declared = column.name in contract.columns
    if old is None:
        return KnownColumn(column.name, column.type, column.type, declared, column.nullable)
    if not widens(old.type, column.type) and join(old.type, column.type) != old.type:
        raise ContractError(
            f'Column "{column.name}" is declared {column.type}, but the table has {old.type}.',
            hint=f"declare it {old.type}, or load into a new table",
        )
    return KnownColumn(column.name, join(old.type, column.type), old.type, True, column.nullable and old.nullable)


def relaxed(kind: Type) -> Type:
    """`kind` at the start of another pass over the same data: a `long` may turn out small again."""
    if isinstance(kind, List):
        return List(relaxed(kind.element))
    if isinstance(kind, Map):
        return Map(relaxed(kind.key), relaxed(kind.value))
    if isinstance(kind, Struct):
        return Struct(tuple((name, relaxed(part)) for name, part in kind.fields))
    return SMALL if kind == LONG else kind


def _within(kind: Type, known: Type) -> Type:
    """`kind` without the struct fields that `known` has not."""
    if isinstance(kind, Struct) and isinstance(known, Struct):
        fields = dict(known.fields)
        return Struct(tuple((name, _within(part, fields[name])) for name, part in kind.fields if name in fields))
    if isinstance(kind, List) and isinstance(known, List):
        return List(_within(kind.element, known.element))
    if isinstance(kind, Map) and isinstance(known, Map):
        return Map(kind.key, _within(kind.value, known.value))
    return kind
