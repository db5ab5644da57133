"""Redshift as a source, on the emulator: what UNLOAD brings to the archive, and destinations by their connection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import redshift_connector

from harness.databases import NAME, Shop, shop
from harness.landing import rows
from harness.redshift import Redshift
from tidemill import sources
from tidemill.adapters.databases.redshift import explained
from tidemill.adapters.system.secrets import EnvironmentSecrets
from tidemill.model.errors import DataError, SettingsError, UnknownName, Unreachable
from tidemill.ports.destination import Load
from tidemill.wiring.object_settings import ObjectSettings
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.redshift import redshift_parts
from tidemill.wiring.secrets import ProjectConnections, ProjectSecrets, connection_of

pytestmark = pytest.mark.postgres

CONNECTIONS = ProjectConnections(ProjectSecrets([EnvironmentSecrets()]))


@pytest.fixture
def db(redshift: Redshift, tmp_path: Path) -> Iterator[Shop]:
    with shop("redshift", tmp_path, redshift) as made:
        yield made


def test_a_table_is_read_by_unload_in_its_types(db: Shop, redshift: Redshift) -> None:
    db.execute(
        "CREATE TABLE orders (id bigint NOT NULL, n smallint, i int, v varchar(20), m numeric(12,3), d date,"
        " ts timestamp, tz timestamptz, f double precision, r real, flag boolean, s super, b varbyte(9), t time)",
        "INSERT INTO orders VALUES (1, 2, 3, 'it''s \\\\ é', 1.5, '2026-01-02', '2026-01-02 03:04:05.5',"
        " '2026-01-02 03:04:05+02', 1e300, 0.5, true, json_parse('{\"a\": [1]}'), from_hex('00ff'), '03:04:05')",
        "INSERT INTO orders (id) VALUES (2)",
    )
    (first, *more) = db.pieces(sources.sql(NAME, "orders"))
    table = pa.concat_tables([first, *more]).sort_by("id")
    full, empty = (list(row.values()) for row in table.to_pylist())
    moment = dt.datetime(2026, 1, 2, 1, 4, 5, tzinfo=dt.UTC)
    assert full == [
        1, 2, 3, "it's \\ é", Decimal("1.500"), dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 3, 4, 5, 500000), moment,
        1e300, 0.5, True, '{"a": [1]}', b"\x00\xff", "03:04:05",
    ]  # fmt: skip
    assert empty == [2, *[None] * 13]
    assert [str(table.schema.field(name).type) for name in ("n", "m", "b")] == ["int16", "decimal128(12, 3)", "binary"]
    assert redshift.store.keys(redshift.bucket) == []


def test_a_cursor_goes_on_and_a_query_reads_what_it_says(db: Shop) -> None:
    db.execute(
        "CREATE TABLE orders (id bigint NOT NULL, name varchar(20))", "INSERT INTO orders VALUES (1, 'a'), (2, 'b')"
    )
    source = sources.sql(NAME, "orders", cursor="id")
    assert sorted(db.read(source)) == [(1, "a"), (2, "b")]
    mark = db.last
    db.execute("INSERT INTO orders VALUES (3, 'c')")
    assert db.read(source, mark) == [(3, "c")]
    assert db.read(source, db.last) == []
    query = sources.sql(NAME, query="SELECT name FROM orders WHERE name <> 'a' AND name <> 'it''s'", name="q")
    assert sorted(db.read(query)) == [("b",), ("c",)]
    more = "100% :x ? $1 %s %(a)s"
    odd = f"SELECT id, '{more}' AS more FROM orders WHERE id % 2 = 1 -- what drivers take for places of values"
    assert sorted(db.read(sources.sql(NAME, query=odd, name="q"))) == [(1, more), (3, more)]


def test_names_and_values_stay_what_they_are(db: Shop) -> None:
    for number, name in enumerate(['odd " name', "50% :a ? %s $1", r"back\slash", "'; drop table x; --"]):
        quoted, value = '"' + name.replace('"', '""') + '"', f"{number}" + r"'; DROP TABLE x; -- \\ %s"
        literal = value.replace("\\", "\\\\").replace("'", "''")
        db.execute(
            f"CREATE TABLE {quoted} (id bigint, {quoted} varchar(40))", f"INSERT INTO {quoted} VALUES (1, '{literal}')"
        )
        source = sources.sql(NAME, name, name="t", cursor=name)
        assert db.read(source) == [(1, value)]
        assert db.read(source, db.last) == []


def test_mistakes_are_told(db: Shop, redshift: Redshift, monkeypatch: pytest.MonkeyPatch) -> None:
    db.execute("CREATE TABLE orders (id bigint)")
    with pytest.raises(UnknownName, match="ordrs"):
        db.read(sources.sql(NAME, "ordrs"))
    with pytest.raises(DataError, match="does not exist"):
        db.read(sources.sql(NAME, query="SELECT nothing FROM orders", name="q"))
    redshift.emulator.fault = lambda sql: "drop" if sql.startswith("UNLOAD") else None
    with pytest.raises(Unreachable):
        db.read(sources.sql(NAME, "orders"))
    redshift.emulator.fault = None
    with pytest.raises(Unreachable, match=r"^The disk of Redshift has no room left: Disk Full\."), explained():
        raise redshift_connector.error.ProgrammingError({"C": "53100", "M": "Disk Full"})
    for query, why in (
        ("", "names none"),
        ("?bucket=s3://b&format=xml", "no format"),
        ("?bucket=s3://b&slices=0", "slices"),
    ):
        with pytest.raises(SettingsError, match=why):
            redshift_parts(connection_of("w", f"redshift://u:p@h/d{query}"), ObjectSettings(), CONNECTIONS)


def test_a_destination_is_found_by_its_connection(db: Shop, tmp_path: Path) -> None:
    made = OutsideSystems(CONNECTIONS, tmp_path).destination(NAME)
    assert made.load(Load("s", None, "1", (rows({"id": "long"}, [(1,)], table="t"),))) == 1
    assert sorted(db.read(sources.sql(NAME, "t"))) == [(1,)]
