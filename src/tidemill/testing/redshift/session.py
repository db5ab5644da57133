"""One client: its frames are read one after the other, and each is answered by PostgreSQL or by the emulator."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.testing.redshift.altering import Known, alter_table
from tidemill.testing.redshift.copying import parse_copy
from tidemill.testing.redshift.exporting import unload
from tidemill.testing.redshift.external import external_schema
from tidemill.testing.redshift.faults import Fault, wrong
from tidemill.testing.redshift.loading import Loading, noting
from tidemill.testing.redshift.statements import Kind, Statement, statement_of
from tidemill.testing.redshift.storage import check_authorized
from tidemill.testing.redshift.tables import create_table
from tidemill.testing.redshift.tokens import literal, split
from tidemill.testing.redshift.types import kept_type
from tidemill.testing.redshift.unloading import parse_unload
from tidemill.testing.redshift.wire import Backend, Closed, Stream, cut, error_frame, fields_of, frame, row_of, text
from tidemill.testing.redshift.wire import values_of as values_in

if TYPE_CHECKING:
    from tidemill.testing.redshift.server import RedshiftEmulator

#: Types that Redshift has by other numbers: SUPER for jsonb, VARBYTE for bytea.
_OIDS = {3802: 4000, 17: 6551}
_BYTES = 17
_NOTED = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), redshift_system.noted(a.attrelid, a.attnum)::text,
        a.atthasdef FROM pg_attribute a
    WHERE a.attrelid = {}::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
#: What ends the answer to a frame.
_ENDS = {b"P": b"1", b"B": b"2", b"C": b"3", b"D": b"Tn", b"E": b"CIs"}


@dataclass
class _Prepared:
    statement: Statement
    binary: tuple[int, ...] = ()


class Session:
    """A client that has logged in.

    Args:
        emulator: whose it is.
        client: its frames.
        backend: PostgreSQL, for this client alone.
    """

    def __init__(self, emulator: RedshiftEmulator, client: Stream, backend: Backend) -> None:
        self._emulator = emulator
        self._client = client
        self._backend = backend
        self._prepared: dict[str, _Prepared] = {}
        self._portals: dict[str, _Prepared] = {}
        self._skipping = False
        #: Whether PostgreSQL was sent frames since it last said how it stands.
        self._pending = False
        #: Number and rows of the last COPY, as the session's settings shall have them.
        self._last: tuple[int, int] | None = None

    def run(self) -> None:
        """Answer until the client goes. Raises Closed."""
        while True:
            kind, body = self._client.frame()
            if kind == b"X":
                return
            try:
                self._take(kind, body)
            except Fault as fault:
                self._client.send(error_frame(fault))
                self._skipping = kind != b"Q"
                if kind == b"Q":
                    self._ready()

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind == b"S":
            self._skipping = False
            if self._pending:
                self._resynchronize()
            self._ready()
        elif self._skipping:
            return
        elif kind == b"Q":
            self._simple(cut(body)[0])
        elif kind == b"P":
            self._parse(body)
        elif kind == b"B":
            self._bind(body)
        elif kind == b"D":
            self._describe(body)
        elif kind == b"E":
            self._execute(body)
        elif kind == b"C":
            self._close(body)
        elif kind != b"H":
            raise wrong(f"protocol message {kind!r} is not expected")

    def _ready(self) -> None:
        if self._backend.status == "I" and self._last is not None:
            number, rows = self._last
            self._backend.ask(f"SET redshift.copy_id = '{number}'; SET redshift.copy_count = '{rows}'")
            self._last = None
        self._client.send(frame(b"Z", self._backend.status.encode()))

    # -- frames

    def _simple(self, sql: str) -> None:
        statements = split(sql)
        if not statements:
            self._client.send(frame(b"I"))
        for one in statements:
            statement = statement_of(one)
            if statement.kind is Kind.FORWARDED:
                self._announce(one)
                self._backend.stream.send(frame(b"Q", text(statement.sql)))
                self._relay_simple()
            else:
                self._client.send(self._run(statement))
            self._after(one)
        self._ready()

    def _relay_simple(self) -> None:
        oids: list[int] = []
        fault: Fault | None = None
        while True:
            kind, body = self._backend.stream.frame()
            if kind == b"Z":
                self._backend.status = body.decode()
                if fault is not None:
                    raise fault
                return
            if kind == b"T":
                oids = [one.oid for one in fields_of(body)]
                body = _renumbered(body)
            elif kind == b"D" and _BYTES in oids:
                body = _plain_bytes(body, oids)
            elif kind == b"E":
                fault = _translated(body)
                continue
            if kind in b"TDCI":
                self._client.send(frame(kind, body))

    def _parse(self, body: bytes) -> None:
        name, at = cut(body)
        sql, at = cut(body, at)
        if len(split(sql)) > 1:
            raise wrong("cannot insert multiple commands into a prepared statement")
        statement = statement_of(sql)
        self._prepared[name] = _Prepared(statement)
        if statement.kind is Kind.FORWARDED:
            self._forward(b"P", text(name) + text(statement.sql) + body[at:])
        elif struct.unpack_from("!H", body, at)[0]:
            raise wrong(f"{statement.tag} takes no parameters")
        else:
            self._client.send(frame(b"1"))

    def _bind(self, body: bytes) -> None:
        portal, at = cut(body)
        name, _ = cut(body, at)
        prepared = self._named(name)
        self._portals[portal] = prepared
        if prepared.statement.kind is Kind.FORWARDED:
            self._forward(b"B", body)
        else:
            self._client.send(frame(b"2"))

    def _describe(self, body: bytes) -> None:
        name = cut(body, 1)[0]
        known = self._named(name) if body[:1] == b"S" else self._portals[name]
        if known.statement.kind is Kind.FORWARDED:
            for kind, answer in self._forward(b"D", body):
                if kind == b"T":
                    known.binary = tuple(one.oid for one in fields_of(answer))
            return
        if body[:1] == b"S":
            self._client.send(frame(b"t", b"\0\0"))
        self._client.send(frame(b"n"))

    def _execute(self, body: bytes) -> None:
        prepared = self._portals[cut(body)[0]]
        if prepared.statement.kind is Kind.FORWARDED:
            self._announce(prepared.statement.sql)
            self._forward(b"E", body, prepared.binary)
        else:
            self._client.send(self._run(prepared.statement))
        self._after(prepared.statement.sql)

    def _close(self, body: bytes) -> None:
        name = cut(body, 1)[0]
        known = (self._prepared if body[:1] == b"S" else self._portals).pop(name, None)
        if known is not None and known.statement.kind is Kind.FORWARDED:
            self._forward(b"C", body)
        else:
            self._client.send(frame(b"3"))

    def _named(self, name: str) -> _Prepared:
        if name not in self._prepared:
            raise Fault(f'prepared statement "{name}" does not exist', "26000")
        return self._prepared[name]

    def _forward(self, kind: bytes, body: bytes, oids: tuple[int, ...] = ()) -> list[tuple[bytes, bytes]]:
        """Have PostgreSQL answer a frame; rows are handed on as they come. Raises Fault."""
        stream, given = self._backend.stream, []
        stream.send(frame(kind, body), frame(b"H"))
        self._pending = True
        while True:
            answer, content = stream.frame()
            if answer == b"E":
                self._resynchronize()
                raise _translated(content)
            if answer in (b"N", b"S"):
                continue
            if answer == b"T":
                given.append((answer, content))
                content = _renumbered(content)
            elif answer == b"D" and _BYTES in oids:
                content = _plain_bytes(content, list(oids))
            self._client.send(frame(answer, content))
            if answer in _ENDS[kind]:
                if kind == b"E":
                    self._resynchronize()
                return given

    def _resynchronize(self) -> None:
        """After a statement PostgreSQL commits what is no part of a transaction, and says how it stands."""
        self._backend.stream.send(frame(b"S"))
        self._pending = False
        while True:
            kind, body = self._backend.stream.frame()
            if kind == b"Z":
                self._backend.status = body.decode()
                return
            if kind == b"E":
                raise _translated(body)

    # -- what the emulator does itself

    def _announce(self, sql: str) -> None:
        if self._emulator.fault is not None and self._emulator.fault(sql) == "drop":
            raise Closed

    def _after(self, sql: str) -> None:
        """Ends the connection where the answer shall be lost, though the statement is done."""
        if self._emulator.fault is not None and self._emulator.fault(f"-- done\n{sql}") == "drop":
            raise Closed

    def _run(self, statement: Statement) -> bytes:
        """Do a statement; gives its answer."""
        if self._backend.status == "E":
            raise Fault("current transaction is aborted, commands ignored until end of transaction block", "25P02")
        self._announce(statement.sql)
        alone = self._backend.status == "I"
        try:
            if alone and statement.kind is not Kind.NOTHING:
                self._backend.ask("BEGIN")
            notice = self._do(statement, alone)
            if alone and self._backend.status == "T":
                self._backend.ask("COMMIT")
        except Fault:
            if alone:
                self._backend.ask("ROLLBACK")
            elif self._backend.status == "T":
                self._fail()
            raise
        tag = frame(b"C", text(statement.tag or statement.kind.value)) if statement.tag else frame(b"I")
        return (error_frame(notice, "INFO") if notice is not None else b"") + tag

    def _do(self, statement: Statement, alone: bool) -> Fault | None:
        match statement.kind:
            case Kind.COPY:
                return self._copy(statement.sql)
            case Kind.UNLOAD:
                given = parse_unload(statement.sql)
                check_authorized(given.who, self._emulator.roles, self._emulator.storage)
                rows = unload(given, self._backend, self._emulator.storage, self._emulator.slices)
                return Fault(f"UNLOAD completed, {rows} record(s) unloaded successfully.", "00000")
            case Kind.CREATE_TABLE:
                self._all(create_table(statement.sql))
            case Kind.ALTER_TABLE:
                self._all(alter_table(statement.sql, self._columns, in_transaction=not alone))
            case Kind.EXTERNAL_SCHEMA:
                self._all(external_schema(statement.sql, self._emulator.roles))
            case Kind.TRUNCATE:
                # It commits the transaction in which it is run.
                self._all([statement.sql, "COMMIT"])
            case _:
                pass
        return None

    def _copy(self, sql: str) -> Fault | None:
        copy = parse_copy(sql)
        check_authorized(copy.who, self._emulator.roles, self._emulator.storage)
        number = self._emulator.next_number()
        loading = Loading(copy, self._emulator.storage)
        try:
            loading.run(self._backend)
        finally:
            self._last = (number, loading.rows)
            # Another connection writes them: they stay where the transaction is rolled back.
            self._emulator.note(self._emulator.database_of(self), noting(loading, number, self._backend.pid))
        self._backend.ask(f"SET LOCAL redshift.copy_id = '{number}'; SET LOCAL redshift.copy_count = '{loading.rows}'")
        failed = f", {len(loading.errors)} record(s) could not be loaded" if loading.errors else ""
        told = f"Load into table '{copy.table[-1]}' completed, {loading.rows} record(s) loaded successfully{failed}."
        return Fault(told, "00000")

    def _columns(self, table: str) -> Mapping[str, Known]:
        found = self._backend.ask(_NOTED.format(literal(table))).rows
        return {
            str(name): Known(
                kept_type(str(kind), json.loads(notes or "{}").get("type")), json.loads(notes or "{}"), has == "t"
            )
            for name, kind, notes, has in found
        }

    def _all(self, statements: list[str]) -> None:
        for one in statements:
            self._backend.ask(one)

    def _fail(self) -> None:
        """A transaction in which a statement has failed takes no other."""
        try:
            self._backend.ask("SELECT 1/0")
        except Fault:
            return


def _translated(body: bytes) -> Fault:
    """PostgreSQL's error, as Redshift tells it where the emulator keeps something in a way of its own."""
    from tidemill.testing.redshift.wire import fault_of

    fault = fault_of(body)
    if fault.code == "23514" and "redshift_bytes_" in fault.message:
        return Fault("Value too long for character type", "22001", "The value does not fit the length in bytes.")
    return fault


def _renumbered(body: bytes) -> bytes:
    """A RowDescription with Redshift's numbers of types."""
    made, at = bytearray(body), 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        at = body.index(b"\0", at) + 1
        (oid,) = struct.unpack_from("!I", body, at + 6)
        struct.pack_into("!I", made, at + 6, _OIDS.get(oid, oid))
        at += 18
    return bytes(made)


def _plain_bytes(body: bytes, oids: list[int]) -> bytes:
    """A row whose VARBYTE values are shown as Redshift shows them."""
    values = values_in(body)
    return row_of([one[2:] if oid == _BYTES and one else one for one, oid in zip(values, oids, strict=True)])
