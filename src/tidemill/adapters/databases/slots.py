"""Replication slots of a PostgreSQL server: which there are, how far, and the publication that they give.

A slot makes the server keep its log from where the slot stands, so one that nobody reads fills its disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.adapters.databases.pgoutput import RelationColumn
from tidemill.adapters.databases.pgtext import SESSION
from tidemill.adapters.databases.postgres import connecting, explained, must_have_drivers
from tidemill.model.cdc import NEW_SLOT, Cdc, FollowedTable, lsn_number, lsn_text
from tidemill.model.databases import database_shown
from tidemill.model.errors import DataError, Refused, SettingsError, UnknownName, Unreachable
from tidemill.plan.sql import quote
from tidemill.ports.slots import Slot

if TYPE_CHECKING:
    import psycopg

_SLOTS = """
    SELECT slot_name, coalesce(plugin, ''), coalesce(database, ''), active, coalesce(wal_status, ''),
           coalesce(confirmed_flush_lsn, restart_lsn)::text,
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
            - restart_lsn)::bigint, safe_wal_size
    FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1
"""
#: A table's replica identity, its columns, and what kind of relation it is.
_IDENTITY = """
    SELECT c.relkind::text, c.relreplident::text, array(
        SELECT a.attname::text FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
        WHERE i.indrelid = c.oid
          AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
    FROM pg_class c WHERE c.oid = to_regclass($1)
"""
#: Domains give way to what they are made of.
_TYPES = """
    WITH RECURSIVE found(n, type, mod) AS (
        SELECT n, o, m FROM unnest($1::bigint[], $2::int[]) WITH ORDINALITY AS given(o, m, n)
        UNION ALL
        SELECT n, t.typbasetype::bigint, CASE WHEN mod = -1 THEN t.typtypmod ELSE mod END
        FROM found JOIN pg_type t ON t.oid = found.type::oid AND t.typtype = 'd'
    )
    SELECT n, type, mod, format_type(type::oid, mod), t.typcategory = 'A'
    FROM found JOIN pg_type t ON t.oid = found.type::oid AND t.typtype <> 'd' ORDER BY n
"""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication gives of a table: some columns (None: all that are not computed), and some rows."""

    columns: tuple[str, ...] | None
    where: str | None


class Server:
    """A connection that asks small questions.

    Args:
        parts: what libpq takes.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = connecting(parts)
        self._connection: psycopg.Connection[Any]

    @contextmanager
    def opened(self) -> Iterator[Server]:
        """Connect."""
        must_have_drivers()
        import psycopg

        with explained():
            self._connection = psycopg.connect(autocommit=True, cursor_factory=psycopg.RawCursor, **self._parts)
        try:
            with explained():
                self._connection.execute(";".join(SESSION))
            yield self
        finally:
            self._connection.close()

    @property
    def info(self) -> str:
        """What libpq connects by."""
        import psycopg.conninfo

        return psycopg.conninfo.make_conninfo(**self._parts)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of an answer."""
        with explained():
            return self._connection.execute(query.encode(), values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """The one value of an answer."""
        return self.rows(query, *values)[0][0]

    def literal(self, text: str) -> str:
        """A text in SQL."""
        from psycopg import sql

        return sql.Literal(text).as_string(self._connection)

    # -- slots

    def slots(self) -> list[Slot]:
        """All logical ones of the server."""
        return [
            Slot(
                name, plugin, database, is_active=bool(active), is_lost=status == "lost",
                lsn=lsn_number(lsn) if lsn else 0, lag=lag, left=left,
            )
            for name, plugin, database, active, status, lsn, lag, left in self.rows(_SLOTS)
        ]  # fmt: skip

    def slot(self, name: str) -> Slot | None:
        """One of them."""
        return next((slot for slot in self.slots() if slot.name == name), None)

    def drop(self, name: str) -> None:
        """Remove a slot. Raises Refused: somebody reads it."""
        slot = self.slot(name)
        if slot is None:
            raise UnknownName.of("replication slot", name, (each.name for each in self.slots()))
        if slot.is_active:
            raise Refused(f'The replication slot "{name}" is being read.', hint="stop who reads it first")
        self.rows("SELECT pg_drop_replication_slot($1)", name)

    def advance(self, slot: Slot, lsn: int) -> None:
        """Let the server forget what lies before; nothing where it has already."""
        if slot.lsn < lsn:
            self.rows("SELECT pg_replication_slot_advance($1, $2::pg_lsn)", slot.name, lsn_text(lsn))

    def promoted(self, source: Cdc) -> None:
        """The slot of a snapshot gets its name, now that the snapshot's batch is published.

        Raises:
            DataError: the server has lost it since.
        """
        new, name = source.slot + NEW_SLOT, source.slot
        known = {slot.name: slot for slot in self.slots()}
        if new not in known:
            return
        if name not in known:
            self.must_have(source, known[new])
            self.rows("SELECT pg_copy_logical_replication_slot($1, $2, false)", new, name)
        self.drop(new)

    # -- what is published

    def must_decode(self, source: Cdc) -> None:
        """Raises SettingsError: the server keeps no log that can be decoded, or has no such publication."""
        level = self.one("SHOW wal_level")
        if level != "logical":
            raise SettingsError(
                f"The server's wal_level is {level}: its log does not tell changes of rows.",
                hint="ALTER SYSTEM SET wal_level = logical, and restart it (Aurora: rds.logical_replication = 1)",
            )
        if not self.rows("SELECT 1 FROM pg_publication WHERE pubname = $1", source.publication):
            wanted = ", ".join(quoted_table(table.name) for table in source.tables)
            raise SettingsError(
                f'There is no publication "{source.publication}" in the database.',
                hint=f"CREATE PUBLICATION {quote(source.publication)} FOR TABLE {wanted}",
            )

    def published(self, source: Cdc) -> dict[str, Published]:
        """What is published of each followed table.

        Raises:
            UnknownName: there is no such table.
            SettingsError: it is not published, or its rows cannot be told apart.
        """
        version = self._connection.info.server_version
        more = "attnames::text[], rowfilter" if version >= 150_000 else "NULL, NULL"
        found = self.rows(
            f"SELECT schemaname::text, tablename::text, {more} FROM pg_publication_tables WHERE pubname = $1",  # noqa: S608
            source.publication,
        )
        known = {
            f"{schema}.{name}": Published(None if columns is None else tuple(columns), where)
            for schema, name, columns, where in found
        }
        for table in source.tables:
            self._must_tell(table, source, known)
        return {table.name: known[table.name] for table in source.tables}

    def _must_tell(self, table: FollowedTable, source: Cdc, known: Mapping[str, Published]) -> None:
        told = self.rows(_IDENTITY, quoted_table(table.name))
        if not told:
            tables = self.rows(
                "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname NOT IN "
                "('pg_catalog', 'information_schema')"
            )
            raise UnknownName.of("table", table.name, [name for (name,) in tables])
        kind, identity, key = told[0]
        if table.name not in known:
            whole = kind == "p"
            raise SettingsError(
                f'"{table.name}" is not in the publication "{source.publication}"'
                + (" as a whole, but by its partitions." if whole else "."),
                hint=f"ALTER PUBLICATION {quote(source.publication)} "
                + ("SET (publish_via_partition_root = true)" if whole else f"ADD TABLE {quoted_table(table.name)}"),
            )
        check_identity(table, identity, key)

    def types(self, columns: Sequence[RelationColumn]) -> dict[int, tuple[int, int, str, bool]]:
        """Type, modifier, the type in words, and whether it is an array, by the position of a column (from 0)."""
        oids, modifiers = [column.oid for column in columns], [column.modifier for column in columns]
        return {int(n) - 1: (int(t), m, name, array) for n, t, m, name, array in self.rows(_TYPES, oids, modifiers)}

    def must_have(self, source: Cdc, slot: Slot) -> None:
        """Raises DataError: the server has removed what the slot was to give."""
        if slot.is_lost:
            shown = f"tidemill data drop-slot {database_shown(source.connection)} {slot.name}"
            raise self.lost(source, "has lost what it was to give (max_slot_wal_keep_size)", shown)

    def lost(self, source: Cdc, why: str, more: str = "") -> DataError:
        """The changes between the bookmark and now cannot be had any more."""
        hint = f'another name, slot="{source.slot}_2", begins with a new snapshot; nothing stays that is gone'
        return DataError(
            f'The replication slot "{source.slot}" {why}: changes since the last batch are lost.',
            hint=f"{hint}; then {more}" if more else hint,
        )

    def busy(self, slot: Slot) -> Unreachable:
        """Somebody else reads the slot."""
        return Unreachable(f'The replication slot "{slot.name}" is being read by another connection.')


def check_identity(table: FollowedTable, identity: str, key: Sequence[str]) -> None:
    """Raises SettingsError: updates and deletes do not tell which row they are about."""
    if identity == "f":
        return
    name = quoted_table(table.name)
    if identity == "n" or not key:
        raise SettingsError(
            f'"{table.name}" has no primary key, so PostgreSQL cannot tell which row an update or delete is about.',
            hint=f"ALTER TABLE {name} ADD PRIMARY KEY (...), or ALTER TABLE {name} REPLICA IDENTITY FULL",
        )
    if not set(table.key) <= set(key):
        raise SettingsError(
            f'The key of "{table.name}" is declared as {", ".join(table.key)}, and PostgreSQL tells rows apart by '
            f"{', '.join(key)}.",
            hint=f'key="{key[0]}"' if len(key) == 1 else f"key={list(key)!r}",
        )


def quoted_table(name: str) -> str:
    """`schema.table` in SQL."""
    return ".".join(map(quote, name.split(".")))


def dropped(server: Server, name: str) -> None:
    """Remove a slot as far as that can be done now."""
    with contextlib.suppress(Exception):
        server.drop(name)


class ServerSlots:
    """The port over a connection that is made for each question.

    Args:
        parts: what libpq takes.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts

    def listed(self) -> list[Slot]:
        """See the port."""
        with Server(self._parts).opened() as server:
            return server.slots()

    def drop(self, name: str) -> None:
        """See the port."""
        with Server(self._parts).opened() as server:
            server.drop(name)
