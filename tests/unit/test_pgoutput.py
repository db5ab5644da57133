"""The bulk decoder against one that goes message by message, on what a server says, cut anywhere."""

from __future__ import annotations

import struct
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from harness.postgres import Postgres
from tidemill.adapters.databases.changes import columns_of
from tidemill.adapters.databases.database import Relation
from tidemill.adapters.databases.pgoutput import Decoder, joined, of_arrow
from tidemill.adapters.databases.pgtext import SESSION, typed
from tidemill.adapters.databases.postgres import PostgresDatabase
from tidemill.adapters.databases.slots import Server
from tidemill.model.errors import DataError

pytestmark = pytest.mark.postgres

LARGE = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) n)"
STEPS = [
    "INSERT INTO a VALUES (1, 'one', 'x'), (2, NULL, ''), (3, 'drei – три', NULL)",
    "UPDATE a SET b = 'two' WHERE id = 2",
    f"INSERT INTO f VALUES (1, {LARGE}), (2, 'x')",
    "UPDATE f SET id = 10 WHERE id = 1",
    "UPDATE a SET id = id + 100 WHERE id < 3",
    f"UPDATE a SET c = {LARGE} WHERE id = 3",
    "UPDATE a SET b = 'again' WHERE id = 3",
    "DELETE FROM a WHERE id = 101",
    "DELETE FROM f WHERE id = 2",
    "ALTER TABLE a ADD COLUMN d int",
    "INSERT INTO a VALUES (7, 'x', 'y', 5)",
    "INSERT INTO unfollowed VALUES (1)",
    "TRUNCATE a, f",
    "INSERT INTO f VALUES (5, 'last')",
]


@pytest.fixture(scope="module")
def said(postgres_or_why: Postgres | str) -> list[bytes]:
    """The messages of the steps."""
    if isinstance(postgres_or_why, str):
        pytest.skip(postgres_or_why)
    url = postgres_or_why.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, b text, c text)")
        connection.execute("CREATE TABLE f (id int, t text); ALTER TABLE f REPLICA IDENTITY FULL")
        connection.execute("CREATE TABLE unfollowed (id int PRIMARY KEY); CREATE PUBLICATION p FOR ALL TABLES")
        connection.execute("SELECT pg_create_logical_replication_slot('said', 'pgoutput')")
        connection.execute("SET synchronous_commit = on")
        for step in STEPS:
            connection.execute(step.encode())
        with connection.transaction():
            connection.execute("INSERT INTO a VALUES (8, 'p', 'q', 1)")
            connection.execute("UPDATE a SET b = 'r' WHERE id = 8")
            connection.execute("DELETE FROM a WHERE id = 8")
        found = connection.execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes('said', NULL, NULL, "
            "'proto_version', '1', 'publication_names', 'p')"
        ).fetchall()
        connection.execute("SELECT pg_drop_replication_slot('said')")
    return [data for (data,) in found]


KEYS = {"public.a": ("id",), "public.f": ("id",)}


def _bulk(slices: list[list[bytes]], **options: Any) -> list[tuple[Any, ...]]:
    """Every change by the bulk decoder, in the order of commits."""
    decoder = Decoder(KEYS, **options)
    found = []
    for messages in slices:
        changes, _ = decoder.decode(*joined(messages))
        for some in changes:
            values = [texts.array(some.data).to_pylist() for texts in some.columns]
            unsent = [texts.is_unchanged for texts in some.columns]
            for row in range(len(some)):
                names = [c.name for c in some.relation.columns]
                missing = {name for name, flags in zip(names, unsent, strict=True) if flags[row]}
                shown = {name: some_of[row] for name, some_of in zip(names, values, strict=True)}
                found.append((int(some.lsn[row]), int(some.sequence[row]), int(some.xid[row]), chr(some.op[row]),
                              some.relation.table, shown, missing))  # fmt: skip
    return sorted(found, key=lambda change: change[:2])


def _one_by_one(messages: list[bytes]) -> list[tuple[Any, ...]]:
    """The same, message by message."""
    relations: dict[int, tuple[str, list[str]]] = {}
    found: list[tuple[Any, ...]] = []
    lsn = xid = number = 0

    def tuple_at(raw: bytes, at: int) -> tuple[list[Any], int]:
        (count,) = struct.unpack_from(">H", raw, at)
        at += 2
        values: list[Any] = []
        for _ in range(count):
            kind = raw[at : at + 1]
            at += 1
            if kind == b"t":
                (size,) = struct.unpack_from(">I", raw, at)
                values.append(raw[at + 4 : at + 4 + size].decode())
                at += 4 + size
            else:
                values.append(None if kind == b"n" else ...)
        return values, at

    def add(op: str, id_: int, values: list[Any]) -> None:
        nonlocal number
        table, names = relations[id_]
        if table in KEYS:
            missing = {n for n, v in zip(names, values, strict=True) if v is ...}
            shown = {n: None if v is ... else v for n, v in zip(names, values, strict=True)}
            found.append((lsn, number, xid, op, table, shown, missing))
            number += 1

    for raw in messages:
        kind = raw[:1]
        if kind == b"B":
            lsn, _, xid = struct.unpack_from(">qqI", raw, 1)
            number = 0
        elif kind == b"R":
            (id_,) = struct.unpack_from(">I", raw, 1)
            schema, name, rest = raw[5:].split(b"\0", 2)
            names, at = [], 3
            for _ in range(struct.unpack_from(">H", rest, 1)[0]):
                end = rest.index(b"\0", at + 1)
                names.append(rest[at + 1 : end].decode())
                at = end + 9
            relations[id_] = (f"{schema.decode()}.{name.decode()}", names)
        elif kind == b"T":
            count, _ = struct.unpack_from(">IB", raw, 1)
            for id_ in struct.unpack_from(f">{count}I", raw, 6):
                add("t", id_, [None] * len(relations[id_][1]))
        elif kind in b"IUD" and kind != b"":
            (id_,) = struct.unpack_from(">I", raw, 1)
            values, at = tuple_at(raw, 6)
            if kind == b"U" and raw[5:6] in (b"K", b"O"):
                new, _ = tuple_at(raw, at + 1)
                new = [old if v is ... else v for v, old in zip(new, values, strict=True)] if raw[5:6] == b"O" else new
                if new[0] != values[0]:
                    add("d", id_, [values[0], *[None] * (len(values) - 1)])
                    add("i", id_, new)
                else:
                    add("u", id_, new)
            else:
                add({b"I": "i", b"U": "u", b"D": "d"}[kind], id_, values)
    return found


def test_it_says_the_same_as_one_by_one(said):
    """Whatever the cut: all at once, each message alone, and every cut in two."""
    wanted = _one_by_one(said)
    assert {change[3] for change in wanted} == set("iudt")
    assert any(change[6] for change in wanted)
    assert _bulk([said]) == wanted
    assert _bulk([[message] for message in said]) == wanted
    for cut in range(1, len(said), 3):
        assert _bulk([said[:cut], said[cut:]]) == wanted


def test_what_was_given_before_is_left_out(said):
    """By the commits' places: those before `after`, and those from `before` on."""
    wanted = _one_by_one(said)
    places = sorted({change[0] for change in wanted})
    low, high = places[3], places[-2]
    assert _bulk([said], after=low, before=high) == [c for c in wanted if low <= c[0] < high]


def test_times_of_commits_never_go_back(said):
    """A server's clock does: what comes later is as late as what came before."""
    decoder = Decoder(KEYS, latest=1 << 60)
    changes, ended = decoder.decode(*joined(said))
    assert {int(at) for some in changes for at in some.committed_at} == {1 << 60}
    assert (ended.changes > 0).all()
    assert int(ended.changes.sum()) == len(_one_by_one(said))


def test_a_tuple_of_another_width_is_told(said):
    """A message that is none is an error, not a wrong row."""
    at = next(i for i, m in enumerate(said) if m[:1] == b"I")
    broken = said[at][:6] + b"\0\1" + said[at][8:]
    with pytest.raises(DataError, match="not as many values"):
        Decoder(KEYS).decode(*joined([*said[:at], broken]))
    with pytest.raises(DataError, match="not described"):
        Decoder(KEYS).decode(*joined([m for m in said if m[:1] != b"R"]))


WIDE = {
    "i2": ("smallint", "-5"),
    "i8": ("bigint", "9007199254740993"),
    "n": ("numeric(12,3)", "1234.500"),
    "free": ("numeric", "1e30"),
    "f4": ("real", "0.1"),
    "f8": ("double precision", "'NaN'"),
    "b": ("boolean", "true"),
    "t": ("text", "'é''x'"),
    "c": ("char(5)", "'ab'"),
    "v": ("varchar(9)", "''"),
    "by": ("bytea", "'\\x00ff10'"),
    "d": ("date", "'0044-03-15 BC'"),
    "ti": ("time", "'23:59:59.000001'"),
    "ts": ("timestamp", "'2026-01-01 10:00:00.5'"),
    "tz": ("timestamptz", "'1900-01-01 00:00+02'"),
    "u": ("uuid", "'6b1d2c3e-0000-4000-8000-00000000abcd'"),
    "js": ("jsonb", '\'{"a": [1, "x"]}\''),
    "ia": ("int[]", "'{1,NULL,3}'"),
    "ta": ("text[]", '\'{a,"b c",NULL,"q\\"uote"}\''),
    "tza": ("timestamptz[]", "'{2026-01-01 00:00+00}'"),
    "na": ("numeric[]", "'{1.50,2}'"),
    "iv": ("interval", "'1 year 2 days 3.5 s'"),
    "ip": ("inet", "'10.0.0.1/8'"),
    "r": ("int4range", "'[1,5)'"),
    "en": ("mood", "'sad'"),
    "ena": ("mood[]", "'{sad,ok}'"),
    "dm": ("money_like", "12.34"),
    "o": ("oid", "4000000000"),
    "nm": ("name", "'n'"),
    "time24": ("timetz", "'10:00+02'"),
}


def test_types_and_values_are_those_of_a_snapshot(postgres):
    """What a slot tells as text is what COPY gives in binary: type by type, nulls included."""
    url = postgres.new_database()
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in WIDE.items())
    values = ", ".join(value for _, value in WIDE.values())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
        connection.execute("CREATE DOMAIN money_like AS numeric(10,2) CHECK (value > 0)")
        connection.execute(f"CREATE TABLE w (id int PRIMARY KEY, {columns})".encode())
        connection.execute("CREATE PUBLICATION p FOR ALL TABLES")
        connection.execute("SELECT pg_create_logical_replication_slot('wide', 'pgoutput')")
        connection.execute("SET synchronous_commit = on")
        connection.execute(f"INSERT INTO w VALUES (1, {values}), (2{', NULL' * len(WIDE)})".encode())
    parts = psycopg.conninfo.conninfo_to_dict(url)
    database = PostgresDatabase(parts)
    with database.opened():
        relation = Relation(('"public"."w"',), ("public", "w"))
        known = database.columns(relation)
        reader = database.reader()
        shown = ", ".join([c.shown for c in known] + [c.beside for c in known if c.beside])
        (copied,) = reader.read((f"SELECT {shown} FROM w ORDER BY id",), known)
        reader.close()
    with Server(parts).opened() as server, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(";".join(SESSION).encode())
        messages = connection.execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes('wide', NULL, NULL, "
            "'proto_version', '1', 'publication_names', 'p')"
        ).fetchall()
        connection.execute("SELECT pg_drop_replication_slot('wide')")
        found = pa.array([data for (data,) in messages], pa.binary())
        (changes,), _ = Decoder({"public.w": ("id",)}).decode(*of_arrow(found))
        for column, texts, one, wanted in zip(
            columns_of(changes.relation, server), changes.columns, known, copied.columns, strict=True
        ):
            assert (column.name, column.kind) == (one.name, one.kind)
            values = typed(texts.array(changes.data), column.kind, column.name, column.declared)
            assert values.equals(wanted) or repr(values.to_pylist()) == repr(wanted.to_pylist()), column.name
