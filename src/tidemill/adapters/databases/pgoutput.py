"""pgoutput, the messages of PostgreSQL's logical replication (protocol 1), decoded in bulk: bytes in, columns out.

    messages -> transactions, relations -> tuples, column by column -> the rows of each relation, in their order

A message is never a Python object: where its parts lie is computed for all messages of a kind at once. Only messages
that are rare (Relation, Truncate) are looked at one by one. Types are `pgtext.py`'s affair.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tidemill.model.errors import DataError

#: Microseconds from 1970 to 2000, where PostgreSQL's time begins.
EPOCH = 946_684_800_000_000
#: Kinds of values in a tuple, and of changes, as in the messages.
_NULL, _UNCHANGED, _TEXT = ord("n"), ord("u"), ord("t")
_BEGIN, _COMMIT, _RELATION, _TRUNCATE = ord("B"), ord("C"), ord("R"), ord("T")
_INSERT, _UPDATE, _DELETE = ord("I"), ord("U"), ord("D")
#: What follows a slice, so that reading a length near its end stays within the array.
_PADDING = np.zeros(16, np.uint8)


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as a Relation message tells it."""

    name: str
    oid: int
    modifier: int
    #: Part of the replica identity.
    is_key: bool


@dataclass(frozen=True, slots=True)
class RelationMessage:
    """A table as it is from now on."""

    id: int
    schema: str
    name: str
    #: `d` default, `i` an index, `f` full, `n` nothing.
    identity: str
    columns: tuple[RelationColumn, ...]

    @property
    def table(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Texts:
    """The values of one column: where each lies in the data, null, or unchanged and not sent."""

    begin: Any
    length: Any
    is_null: Any
    is_unchanged: Any

    def array(self, data: Any) -> pa.Array:
        """The values as strings."""
        length = np.where(self.is_null, 0, self.length)
        offsets = np.zeros(len(length) + 1, np.int32)
        np.cumsum(length, out=offsets[1:])
        where = np.arange(offsets[-1], dtype=np.int64)
        where += np.repeat(self.begin - offsets[:-1], length)
        buffers = [_bits(~self.is_null), pa.py_buffer(offsets), pa.py_buffer(data.take(where))]
        return pa.StringArray.from_buffers(len(length), buffers[1], buffers[2], buffers[0])


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of one relation, in their order: numpy arrays of one length, and each column's values."""

    relation: RelationMessage
    data: Any
    #: `i`, `u`, `d` or `t`, as bytes.
    op: Any
    lsn: Any
    sequence: Any
    xid: Any
    committed_at: Any
    columns: Sequence[Texts]

    def __len__(self) -> int:
        return len(self.op)


@dataclass(frozen=True, slots=True)
class Transactions:
    """Transactions that ended: numpy arrays of one length. `changes` counts those that were followed."""

    lsn: Any
    xid: Any
    committed_at: Any
    changes: Any


@dataclass(slots=True)
class Decoder:
    """Decodes messages slice by slice; a transaction may lie in several.

    Args:
        keys: table -> the columns of its key, for the tables that are followed; others are passed over. Without
            columns: its key is not asked for.
        after: transactions whose commit lies before this were given before.
        before: those whose commit lies at or behind this are not given; None: all are.
        latest: the latest commit so far, in microseconds since 1970: a server's clock may go back, times of commits
            here never do.
    """

    keys: Mapping[str, Sequence[str]]
    after: int = 0
    before: int | None = None
    latest: int = 0
    #: Where the last transaction that was given ends; 0: none was.
    end: int = 0
    relations: dict[int, RelationMessage] = field(default_factory=dict)
    _is_open: bool = False
    #: The transaction that is open: LSN of the commit, its time, its id; changes so far.
    _open: tuple[int, int, int] = (0, 0, 0)
    _sequence: int = 0
    #: Of the transactions of a slice, the open one first: what is known of them, and how many changes each has.
    _known: Any = None
    _counts: Any = None
    #: Of the truncates of a slice: relation -> messages.
    _truncated: dict[int, list[int]] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether a transaction has begun, and not ended."""
        return self._is_open

    def decode(self, data: Any, offsets: Any) -> tuple[list[Changes], Transactions]:
        """Decode whole messages.

        Args:
            data: their bytes, one after another (uint8).
            offsets: where each begins, and where the last one ends (int64).

        Raises:
            DataError: something that pgoutput does not say, or an update whose key and unsent values cannot be told.
        """
        data = np.concatenate([data, _PADDING])
        start = offsets[:-1]
        kind = data[start]
        txn, known = self._transactions(data, start, kind)
        lsn, committed, xid = (known[:, i][txn] for i in range(3))
        wanted = lsn >= self.after
        if self.before is not None:
            wanted &= lsn < self.before
        found: list[tuple[RelationMessage, _Rows]] = []
        for relation, mine in self._segments(data, start, kind):
            if relation.table in self.keys:
                found.append((relation, self._rows(data, start, kind, mine & wanted, relation)))
        sequence = self._numbered(found, txn, len(known))
        changes = [
            Changes(
                relation, data, rows.op, lsn[rows.message], numbers, xid[rows.message], committed[rows.message],
                rows.columns,
            )
            for (relation, rows), numbers in zip(found, sequence, strict=True)
            if len(rows.op)
        ]  # fmt: skip
        return changes, self._ended(data, start, kind, wanted)

    # -- transactions

    def _transactions(self, data: Any, start: Any, kind: Any) -> tuple[Any, Any]:
        """To which transaction each message belongs, and what is known of these; the first is the open one."""
        begins = start[kind == _BEGIN]
        known = np.empty((len(begins) + 1, 3), np.int64)
        known[0] = self._open
        known[1:, 0] = _int64(data, begins + 1)
        known[1:, 1] = _int64(data, begins + 9) + EPOCH
        known[1:, 2] = _uint32(data, begins + 17)
        known[:, 1] = np.maximum(np.maximum.accumulate(known[:, 1]), self.latest)
        self.latest = int(known[-1, 1]) if len(begins) else self.latest
        self._counts = np.zeros(len(known), np.int64)
        self._counts[0] = self._sequence
        self._known = known
        self._open = (int(known[-1, 0]), int(known[-1, 1]), int(known[-1, 2]))
        return np.cumsum(kind == _BEGIN), known

    def _ended(self, data: Any, start: Any, kind: Any, wanted: Any) -> Transactions:
        """Those with changes that ended in this slice."""
        edges = kind[(kind == _BEGIN) | (kind == _COMMIT)]
        self._is_open = bool(edges[-1] == _BEGIN) if len(edges) else self._is_open
        at = (kind == _COMMIT) & wanted
        if at.any():
            self.end = int(_int64(data, start[at][-1:] + 10)[0])
        number = np.cumsum(kind == _BEGIN)[at]
        number = number[self._counts[number] > 0]
        self._sequence = int(self._counts[-1])
        lsn, committed_at, xid = (self._known[number, i] for i in range(3))
        return Transactions(lsn, xid, committed_at, self._counts[number])

    def _numbered(self, found: list[tuple[RelationMessage, _Rows]], txn: Any, transactions: int) -> list[Any]:
        """The number of each change in its transaction, from 0, over all relations."""
        if not found:
            return []
        order = np.concatenate([rows.order for _, rows in found])
        by = np.argsort(order, kind="stable")
        numbers = np.empty(len(order), np.int64)
        where = np.concatenate([txn[rows.message] for _, rows in found])[by]
        count = np.bincount(where, minlength=transactions)
        first = np.cumsum(count) - count
        numbers[by] = np.arange(len(order)) - first[where] + np.where(where == 0, self._sequence, 0)
        self._counts += count
        cuts = np.cumsum([len(rows.order) for _, rows in found])[:-1]
        return list(np.split(numbers, cuts))

    # -- relations

    def _segments(self, data: Any, start: Any, kind: Any) -> Iterator[tuple[RelationMessage, Any]]:
        """Each relation in each of its forms, and the messages that are about it in that form."""
        about = np.isin(kind, (_INSERT, _UPDATE, _DELETE))
        ids = np.where(about, _uint32(data, start + 1), 0)
        cuts: dict[int, list[tuple[int, RelationMessage]]] = {
            id_: [(0, relation)] for id_, relation in self.relations.items()
        }
        ends = np.append(start[1:], len(data))
        for at in np.flatnonzero(kind == _RELATION):
            relation = _relation(data[start[at] : ends[at]])
            forms = cuts.setdefault(relation.id, [])
            if not forms or forms[-1][1] != relation:
                forms.append((int(at), relation))
            self.relations[relation.id] = relation
        self._truncated = {}
        for at in np.flatnonzero(kind == _TRUNCATE):
            count = int(_uint32(data, start[at : at + 1] + 1)[0])
            for id_ in _uint32(data, start[at] + 6 + 4 * np.arange(count)):
                self._truncated.setdefault(int(id_), []).append(int(at))
        unknown = set(np.unique(ids[about]).tolist()) - set(cuts)
        if unknown:
            raise DataError("PostgreSQL tells a change of a table that it has not described.")
        position = np.arange(len(start))
        for id_, forms in cuts.items():
            for number, (first, relation) in enumerate(forms):
                last = forms[number + 1][0] if number + 1 < len(forms) else len(start)
                mine = about & (ids == id_) & (position >= first) & (position < last)
                for place in self._truncated.get(id_, ()):
                    mine[place] |= first <= place < last
                if mine.any():
                    yield relation, mine

    def _rows(self, data: Any, start: Any, kind: Any, mine: Any, relation: RelationMessage) -> _Rows:
        """The rows that the messages of one relation make."""
        width = len(relation.columns)
        declared = self.keys[relation.table]
        key = [
            at
            for at, column in enumerate(relation.columns)
            if column.name in declared or (not declared and column.is_key and relation.identity != "f")
        ]
        parts: list[_Rows] = []
        at = np.flatnonzero(mine & (kind == _INSERT))
        values, _ = _tuples(data, start[at] + 6, width)
        parts.append(_Rows(_ops("i", len(at)), at, at * 4 + 1, values))
        at = np.flatnonzero(mine & (kind == _DELETE))
        values, _ = _tuples(data, start[at] + 6, width)
        parts.append(_Rows(_ops("d", len(at)), at, at * 4 + 1, values))
        at = np.flatnonzero(mine & (kind == _UPDATE))
        told = data[start[at] + 5]
        parts += self._updates(data, start, at[told == ord("N")], None, width, relation, key)
        for letter in "KO":
            parts += self._updates(data, start, at[told == ord(letter)], letter, width, relation, key)
        at = np.flatnonzero(mine & (kind == _TRUNCATE))
        parts.append(_Rows(_ops("t", len(at)), at, at * 4 + 1, [_nulls(len(at))] * width))
        return _Rows.together([part for part in parts if len(part.op)] or parts[:1])

    def _updates(
        self, data: Any, start: Any, at: Any, old: str | None, width: int, relation: RelationMessage, key: list[int]
    ) -> list[_Rows]:
        """The rows of updates: one each, or where the key changes a delete and an insert.

        What is not sent is taken from the old row, where that is.
        """
        if not len(at):
            return []
        if old is None:
            values, _ = _tuples(data, start[at] + 6, width)
            return [_Rows(_ops("u", len(at)), at, at * 4 + 1, values)]
        before, ends = _tuples(data, start[at] + 6, width)
        values, _ = _tuples(data, ends + 1, width)
        if old == "O":
            values = [_filled(new, was) for new, was in zip(values, before, strict=True)]
        else:
            # The old key comes where it has changed, or where a part of it is stored out of line.
            values = [
                _filled(new, was) if column.is_key else new
                for column, new, was in zip(relation.columns, values, before, strict=True)
            ]
        moved = np.zeros(len(at), bool)
        for i in key:
            moved |= ~np.asarray(_same(values[i].array(data), before[i].array(data)))
        unsent = moved & np.logical_or.reduce([value.is_unchanged for value in values])
        if unsent.any() and self.keys[relation.table]:
            raise DataError(
                f"An update has changed the key of {relation.table}, and has a large value that PostgreSQL does not "
                "send again.",
                hint=f"ALTER TABLE {relation.table} REPLICA IDENTITY FULL, and another slot= for a new snapshot",
            )
        op = np.where(moved, np.uint8(ord("i")), np.uint8(ord("u")))
        keys = [value if i in key else _nulls(len(at)) for i, value in enumerate(before)]
        gone = _Rows(_ops("d", len(at)), at, at * 4, keys).taken(np.flatnonzero(moved))
        return [_Rows(op, at, at * 4 + 1, values), gone]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one relation: what happened, by which message, in which order, and the values."""

    op: Any
    message: Any
    order: Any
    columns: Sequence[Texts]

    def taken(self, which: Any) -> _Rows:
        columns = [
            Texts(c.begin[which], c.length[which], c.is_null[which], c.is_unchanged[which]) for c in self.columns
        ]
        return _Rows(self.op[which], self.message[which], self.order[which], columns)

    @classmethod
    def together(cls, parts: Sequence[_Rows]) -> _Rows:
        """All of them, in order."""
        if len(parts) == 1:
            return parts[0]
        columns = [
            Texts(*[np.concatenate([getattr(c, name) for c in some]) for name in Texts.__slots__])
            for some in zip(*(part.columns for part in parts), strict=True)
        ]
        op, message, order = (np.concatenate([getattr(part, n) for part in parts]) for n in ("op", "message", "order"))
        whole = cls(op, message, order, columns)
        return whole.taken(np.argsort(whole.order, kind="stable"))


def joined(messages: Sequence[bytes]) -> tuple[Any, Any]:
    """Messages as the decoder takes them: their bytes, and where each begins."""
    offsets = np.zeros(len(messages) + 1, np.int64)
    np.cumsum([len(message) for message in messages], out=offsets[1:])
    return np.frombuffer(b"".join(messages), np.uint8), offsets


def of_arrow(messages: pa.Array) -> tuple[Any, Any]:
    """The same of a binary array."""
    wide = messages.type in (pa.large_binary(), pa.large_string())
    _, offsets, data = messages.buffers()
    found = np.frombuffer(offsets, np.int64 if wide else np.int32)[
        messages.offset : messages.offset + len(messages) + 1
    ]
    return np.frombuffer(data, np.uint8)[found[0] : found[-1]], (found - found[0]).astype(np.int64)


def _tuples(data: Any, at: Any, width: int) -> tuple[list[Texts], Any]:
    """The values of tuples that begin at `at`, and where each tuple ends."""
    if len(at) and not (_uint16(data, at) == width).all():
        raise DataError("PostgreSQL tells a row that has not as many values as its table has columns.")
    place = at + 2
    found = []
    for _ in range(width):
        kind = data[place]
        sent = kind == _TEXT
        length = np.where(sent, _uint32(data, place + 1), 0)
        is_null, is_unchanged = kind == _NULL, kind == _UNCHANGED
        if not (sent | is_null | is_unchanged).all():
            raise DataError("PostgreSQL tells a value in a form that was not asked for.")
        found.append(Texts(place + 5, length, ~sent, is_unchanged))
        place = place + 1 + np.where(sent, length + 4, 0)
    return found, place


def _filled(new: Texts, old: Texts) -> Texts:
    """New values, and the old ones where these are not sent."""
    u = new.is_unchanged
    return Texts(
        np.where(u, old.begin, new.begin),
        np.where(u, old.length, new.length),
        np.where(u, old.is_null, new.is_null),
        u & old.is_unchanged,
    )


def _same(one: pa.Array, other: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    equal = pc.fill_null(pc.equal(one, other), False)
    return pc.or_(equal, pc.and_(one.is_null(), other.is_null())).to_numpy(zero_copy_only=False)


def _relation(data: Any) -> RelationMessage:
    """A Relation message."""
    raw = data.tobytes()
    (id_,) = struct.unpack_from(">I", raw, 1)
    schema, at = _name(raw, 5)
    name, at = _name(raw, at)
    identity, count = struct.unpack_from(">cH", raw, at)
    at += 3
    columns = []
    for _ in range(count):
        flags = raw[at]
        column, at = _name(raw, at + 1)
        oid, modifier = struct.unpack_from(">Ii", raw, at)
        at += 8
        columns.append(RelationColumn(column, oid, modifier, bool(flags & 1)))
    return RelationMessage(id_, schema or "pg_catalog", name, identity.decode(), tuple(columns))


def _name(raw: bytes, at: int) -> tuple[str, int]:
    end = raw.index(b"\0", at)
    return raw[at:end].decode(), end + 1


def _ops(letter: str, count: int) -> Any:
    return np.full(count, ord(letter), np.uint8)


def _nulls(count: int) -> Texts:
    zeros = np.zeros(count, np.int64)
    return Texts(zeros, zeros, np.ones(count, bool), np.zeros(count, bool))


def _bits(valid: Any) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _numbers(data: Any, at: Any, kind: str) -> Any:
    """The numbers that begin at the bytes `at`: one look at each, in a view that has a number at every byte."""
    size = np.dtype(kind).itemsize
    return np.ndarray((len(data) - size + 1,), kind, data, strides=(1,))[at].astype(np.int64)


_uint16, _uint32, _int64 = (partial(_numbers, kind=kind) for kind in (">u2", ">u4", ">i8"))
