"""How column types meet: the type that holds the values of two, what a table may become, and the difference in words.

A decoder learns types value by value and joins them; a load compares the outcome with the table and plans the steps.
Joining is commutative, associative and idempotent (fields of a struct keep the order in which they appeared), so the
type of a column depends on its values only, never on where the input was cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tidemill.model.table import BATCH_ID, LOADED_AT, Contract, OnMisfit, Schema
from tidemill.model.types import (
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIMESTAMP,
    UNKNOWN,
    Decimal,
    List,
    Map,
    Primitive,
    Struct,
    Type,
)

#: A `long` of which every value so far lies within +-2**53, so that a double holds it exactly. It exists only while
#: types are learned; `settled` turns it into `long`. Without it 2**53 + 1 beside 0.5 would lose a digit silently.
SMALL = Primitive("small")
#: The largest integer up to which a double holds every integer.
EXACT_IN_DOUBLE = 2**53
#: The type of integers beyond 64 bits; longer ones than its digits become text.
BIG = Decimal(38, 0)

#: Each integer type as a decimal: digits before the point.
_DIGITS = {INT: 10, SMALL: 16, LONG: 19}
_WIDTH = {INT: 0, SMALL: 1, LONG: 2}


def join(a: Type, b: Type) -> Type:
    """The narrowest type that holds every value of `a` and of `b` without loss; in the end `string`, which holds all.

    Integers with doubles give double as long as all integers lie within +-2**53 (type `SMALL`), else string. A date
    with a timestamp gives timestamp (midnight). Anything else that is mixed is kept as text: scalars as they were
    written, structs and lists as JSON.
    """
    if a == b or b == UNKNOWN:
        return a
    if a == UNKNOWN:
        return b
    if isinstance(a, Struct) and isinstance(b, Struct):
        return _join_structs(a, b)
    if isinstance(a, List) and isinstance(b, List):
        return List(join(a.element, b.element))
    if isinstance(a, Map) and isinstance(b, Map):
        return Map(join(a.key, b.key), join(a.value, b.value))
    if isinstance(a, Struct | List | Map) or isinstance(b, Struct | List | Map):
        return STRING
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        return _join_decimals(a, b)
    return _join_primitives(a, b)


def _join_structs(a: Struct, b: Struct) -> Struct:
    other = dict(b.fields)
    fields = [(name, join(kind, other.pop(name, UNKNOWN))) for name, kind in a.fields]
    return Struct((*fields, *((name, kind) for name, kind in b.fields if name in other)))


def _join_decimals(a: Type, b: Type) -> Type:
    parts = [_as_decimal(a), _as_decimal(b)]
    known = [p for p in parts if p is not None]
    if len(known) < 2:
        return STRING
    digits = max(p.precision - p.scale for p in known)
    scale = max(p.scale for p in known)
    return Decimal(digits + scale, scale) if digits + scale <= BIG.precision else STRING


def _as_decimal(kind: Type) -> Decimal | None:
    if isinstance(kind, Decimal):
        return kind
    digits = _DIGITS.get(kind) if isinstance(kind, Primitive) else None
    return None if digits is None else Decimal(digits, 0)


def _join_primitives(a: Primitive, b: Primitive) -> Type:
    if a in _WIDTH and b in _WIDTH:
        return max(a, b, key=_WIDTH.__getitem__)
    pair = {a, b}
    if pair & {FLOAT, DOUBLE} and pair <= {INT, SMALL, FLOAT, DOUBLE}:
        return DOUBLE
    if pair == {DATE, TIMESTAMP}:
        return TIMESTAMP
    return STRING


def join_ranked(a: Type, b: Type) -> Type:
    """As `join`, but what nests keeps its place: a list beats a struct, and both beat scalars, which are then misfits.

    For input whose structs and lists are taken apart: as text, one odd value would hide those of the whole batch.
    """
    if _rank(a) != _rank(b):
        return max(a, b, key=_rank)
    if isinstance(a, Struct) and isinstance(b, Struct):
        other = dict(b.fields)
        fields = [(name, join_ranked(kind, other.pop(name, UNKNOWN))) for name, kind in a.fields]
        return Struct((*fields, *((name, kind) for name, kind in b.fields if name in other)))
    if isinstance(a, List) and isinstance(b, List):
        return List(join_ranked(a.element, b.element))
    return join(a, b)


def misplaced(known: Type, kind: Type) -> bool:
    """Whether `kind` has, somewhere, a scalar or struct where `known` has what beats it in `join_ranked`."""
    if kind == UNKNOWN or known == UNKNOWN:
        return False
    if _rank(kind) != _rank(known):
        return _rank(kind) < _rank(known)
    if isinstance(known, Struct) and isinstance(kind, Struct):
        fields = dict(known.fields)
        return any(misplaced(fields.get(name, UNKNOWN), part) for name, part in kind.fields)
    return isinstance(known, List) and isinstance(kind, List) and misplaced(known.element, kind.element)


def _rank(kind: Type) -> int:
    if isinstance(kind, List | Map):
        return 3
    return 2 if isinstance(kind, Struct) else int(kind != UNKNOWN)


def settled(kind: Type) -> Type | None:
    """`kind` as a table can store it: `SMALL` as long, parts that have held nothing left out; None if nothing stays."""
    if kind == UNKNOWN:
        return None
    if kind == SMALL:
        return LONG
    if isinstance(kind, List):
        element = settled(kind.element)
        return None if element is None else List(element)
    if isinstance(kind, Map):
        key, value = settled(kind.key), settled(kind.value)
        return None if key is None or value is None else Map(key, value)
    if isinstance(kind, Struct):
        fields = tuple((name, part) for name, raw in kind.fields if (part := settled(raw)) is not None)
        return Struct(fields) if fields else None
    return kind


def widens(old: Type, new: Type) -> bool:
    """Whether data of type `old` may stay as it is when its column becomes `new`.

    That is what Iceberg allows without rewriting files: int -> long, float -> double, decimal(p,s) -> decimal(p',s),
    and further fields in structs. A container that `settled` left out of what was written may not appear later: its
    empty lists and structs were written as nulls.
    """
    if old in (new, UNKNOWN):
        return True
    if isinstance(old, Struct | List | Map) and settled(old) is None:
        return settled(new) is None
    if isinstance(old, Struct) and isinstance(new, Struct):
        fields = dict(new.fields)
        return all(name in fields and widens(kind, fields[name]) for name, kind in old.fields)
    if isinstance(old, List) and isinstance(new, List):
        return widens(old.element, new.element)
    if isinstance(old, Map) and isinstance(new, Map):
        return widens(old.key, new.key) and widens(old.value, new.value)
    if isinstance(old, Decimal) and isinstance(new, Decimal):
        return old.scale == new.scale and old.precision <= new.precision
    if isinstance(old, Primitive) and isinstance(new, Primitive):
        return (old, new) == (FLOAT, DOUBLE) or (old in _WIDTH and new in _WIDTH and _WIDTH[old] <= _WIDTH[new])
    return False


def unfolds(old: Type, new: Type) -> bool:
    """Whether a list or struct that `settled` left out of `old`, for it had held nothing, is there in `new`."""
    if isinstance(old, Struct | List | Map) and settled(old) is None:
        return settled(new) is not None
    if isinstance(old, Struct) and isinstance(new, Struct):
        fields = dict(new.fields)
        return any(unfolds(kind, fields.get(name, UNKNOWN)) for name, kind in old.fields)
    if isinstance(old, List) and isinstance(new, List):
        return unfolds(old.element, new.element)
    return isinstance(old, Map) and isinstance(new, Map) and unfolds(old.value, new.value)


@dataclass(frozen=True, slots=True)
class AddColumn:
    """A step: add a nullable column, or a field within one.

    `path` is the column's name, or leads into it as Iceberg does: `("items", "element", "sku")`.
    """

    path: tuple[str, ...]
    type: Type

    def __str__(self) -> str:
        return f"+ {_dotted(self.path)} {self.type}"


@dataclass(frozen=True, slots=True)
class WidenColumn:
    """A step: give a column, or a field within one, a wider type; files stay as they are."""

    path: tuple[str, ...]
    old: Type
    new: Type

    def __str__(self) -> str:
        return f"~ {_dotted(self.path)} {self.old} -> {self.new}"


Step = AddColumn | WidenColumn


@dataclass(frozen=True, slots=True)
class Misfit:
    """A column of the data that the table cannot take in."""

    path: tuple[str, ...]
    #: What the table has; None where it has no such column.
    old: Type | None
    new: Type
    reason: str

    def __str__(self) -> str:
        change = f"{self.new}" if self.old is None else f"{self.old}, the data holds {self.new}"
        return f"! {_dotted(self.path)} {change} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Evolution:
    """What it takes to fit data into a table: steps to do in order, and what no step can fit."""

    steps: tuple[Step, ...] = ()
    misfits: tuple[Misfit, ...] = ()

    @property
    def text(self) -> str:
        """The difference, one line each: `+` added, `~` widened, `!` impossible."""
        return "\n".join(str(line) for line in (*self.steps, *self.misfits))

    def __bool__(self) -> bool:
        return bool(self.steps or self.misfits)


def difference(table: Schema, data: Schema, contract: Contract) -> Evolution:
    """Compare what a table has with what the data holds, under the table's contract.

    Columns that the data lacks are no difference: their rows hold nulls. `evolve` and `freeze` give the same steps;
    `freeze` is then refused by whoever would do them, and shows `text`. The `discard_*` contracts never change a
    table, so only their misfits could matter; unknown columns are dropped, or rejected by row, before this.
    """
    steps: list[Step] = []
    misfits: list[Misfit] = []
    names = {column.name.lower(): column.name for column in table}
    discard = contract.on_misfit in (OnMisfit.DISCARD_COLUMNS, OnMisfit.DISCARD_ROWS)
    for column in data:
        kind = settled(column.type)
        if kind is None or column.name in (BATCH_ID, LOADED_AT):
            continue
        known = table.get(column.name)
        if known is not None:
            for found in _compare((column.name,), known.type, column.type):
                (misfits if isinstance(found, Misfit) else steps).append(found)  # type: ignore[arg-type]  # by kind
        elif column.name.lower() in names:
            other = names[column.name.lower()]
            misfits.append(Misfit((column.name,), None, kind, f'the table has "{other}"; case is ignored'))
        else:
            steps.append(AddColumn((column.name,), kind))
    return Evolution(() if discard else tuple(steps), tuple(misfits))


def _compare(path: tuple[str, ...], old: Type, new: Type) -> Iterator[Step | Misfit]:
    """What turns `old` into a type that also holds `new`, along the paths where they differ."""
    if isinstance(old, Struct) and isinstance(new, Struct):
        fields = dict(old.fields)
        for name, kind in new.fields:
            if name in fields:
                yield from _compare((*path, name), fields[name], kind)
            elif (known := settled(kind)) is not None:
                yield AddColumn((*path, name), known)
        return
    if isinstance(old, List) and isinstance(new, List):
        yield from _compare((*path, "element"), old.element, new.element)
        return
    if isinstance(old, Map) and isinstance(new, Map):
        yield from _compare((*path, "key"), old.key, new.key)
        yield from _compare((*path, "value"), old.value, new.value)
        return
    wider = join(old, new)
    if wider == old:
        return
    held = settled(wider) or wider
    if widens(old, wider):
        yield WidenColumn(path, old, held)
    else:
        yield Misfit(path, old, settled(new) or new, "no widening in place leads there")


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)
