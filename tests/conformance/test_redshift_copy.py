"""COPY and UNLOAD on the emulator, by the unmodified driver: each case names the page of Amazon's documentation."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import redshift_connector

from harness import services
from harness.objectstore import ObjectStore
from harness.postgres import Postgres
from harness.redshift import ROLE, Redshift, destination, emulating
from tidemill.adapters.redshift.columnar import write_avro, write_parquet, zstd

pytestmark = pytest.mark.postgres
Failed = redshift_connector.error.ProgrammingError
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared(postgres_or_why: Postgres | str, object_store: ObjectStore) -> Iterator[Redshift]:
    """One emulator for all: each test has tables and files of its own."""
    if isinstance(postgres_or_why, str):
        services.missing("PostgreSQL", postgres_or_why)
    assert isinstance(postgres_or_why, Postgres)
    with emulating(postgres_or_why, object_store) as made:
        yield made


def made(place: Redshift, columns: str) -> str:
    name = f"t{next(_NUMBERS)}"
    place.ask(f"CREATE TABLE {name} ({columns})")
    return name


TEXT = "a varchar(5), b int"
#: Page, columns, content, options, rows.
CASES: list[tuple[str, str, str | bytes, str, list[tuple[Any, ...]]]] = [
    ("Data format parameters", TEXT, "x|1\ny|2\n", "", [("x", 1), ("y", 2)]),
    ("DELIMITER", TEXT, "x\t1\n", r"DELIMITER '\t'", [("x", 1)]),
    ("DELIMITER, octal", TEXT, "x,1\n", r"DELIMITER '\054'", [("x", 1)]),
    ("CSV", TEXT, 'x,1\n"a""\n,",2\n', "CSV", [("x", 1), ('a"\n,', 2)]),
    ("CSV QUOTE", TEXT, "%x,%,1\n", "CSV QUOTE AS '%'", [("x,", 1)]),
    ("IGNOREHEADER", TEXT, "a,b\nx,1\n", "CSV IGNOREHEADER 1", [("x", 1)]),
    ("NULL AS", TEXT, "nil,1\n,nil\n", "CSV NULL AS 'nil'", [(None, 1), ("", None)]),
    ("NULL AS, its default", TEXT, "\\N|\\N\n", "", [(None, None)]),
    ("EMPTYASNULL", TEXT, "|1\n", "EMPTYASNULL", [(None, 1)]),
    ("EMPTYASNULL, left out", TEXT, "|\n", "", [("", None)]),
    ("BLANKSASNULL", TEXT, "  |1\n", "BLANKSASNULL", [(None, 1)]),
    ("TRIMBLANKS", TEXT, "x  |1\n", "TRIMBLANKS", [("x", 1)]),
    ("TRUNCATECOLUMNS", TEXT, "abcdéf|1\n", "TRUNCATECOLUMNS", [("abcd", 1)]),
    ("ESCAPE", TEXT, "x\\|y|1\n", "ESCAPE", [("x|y", 1)]),
    ("REMOVEQUOTES", TEXT, '"x|y"|1\n', "REMOVEQUOTES", [("x|y", 1)]),
    ("FILLRECORD", TEXT, "x\n", "FILLRECORD", [("x", None)]),
    ("IGNOREBLANKLINES", TEXT, "x|1\n\n", "IGNOREBLANKLINES", [("x", 1)]),
    ("ACCEPTINVCHARS", TEXT, b"\xff\xfe|1\n", "ACCEPTINVCHARS AS '^'", [("^^", 1)]),
    ("ENCODING", TEXT, "é|1\n".encode("utf-16"), "ENCODING AS UTF16", [("é", 1)]),
    ("ROUNDEC, left out", "n decimal(8,2)", "20.259\n", "", [(Decimal("20.25"),)]),
    ("ROUNDEC", "n decimal(8,2)", "20.259\n", "ROUNDEC", [(Decimal("20.26"),)]),
    ("DATEFORMAT", "d varchar(9), e date", "x|03-02-2026\n", "DATEFORMAT 'DD-MM-YYYY'", []),
    ("ACCEPTANYDATE", "e date", "never\n", "ACCEPTANYDATE DATEFORMAT 'auto'", [(None,)]),
    ("TIMEFORMAT epochsecs", "e timestamp", "0\n", "TIMEFORMAT 'epochsecs'", []),
    ("GZIP", TEXT, gzip.compress(b"x|1\n"), "GZIP", [("x", 1)]),
    ("BZIP2", TEXT, bz2.compress(b"x|1\n"), "BZIP2", [("x", 1)]),
    ("ZSTD", TEXT, zstd(b"x|1\n"), "ZSTD", [("x", 1)]),
    ("JSON 'auto'", TEXT, '{"b": 1, "a": "x", "c": 3}\n{"A": "y"}', "JSON 'auto'", [("x", 1), (None, None)]),
    ("JSON 'auto ignorecase'", TEXT, '{"A": "y", "B": 2}', "JSON 'auto ignorecase'", [("y", 2)]),
    ("JSON 'noshred'", "s super", '{"a": [1, 2.50]}', "JSON 'noshred'", [('{"a": [1, 2.50]}',)]),
    ("SUPER", "s super", '{"s": {"x": null}}', "JSON 'auto'", [('{"x": null}',)]),
    ("AVRO", TEXT, write_avro({"b": "long", "a": "string"}, [{"a": "x", "b": 1}]), "AVRO 'auto'", [("x", 1)]),
    ("columnar", TEXT, write_parquet([("y", "string"), ("z", "int32")], [["x", 1]]), "FORMAT PARQUET", [("x", 1)]),
    ("MAXERROR", TEXT, "x|1\ny|z\nw|2\n", "MAXERROR 2", [("x", 1), ("w", 2)]),
    ("VARBYTE", "v varbyte(4), n int", "6162,1\n", "CSV", [("ab", 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("page", "columns", "content", "options", "rows"), CASES, ids=[case[0] for case in CASES])
def test_copy_loads(
    shared: Redshift, page: str, columns: str, content: str | bytes, options: str, rows: list[tuple[Any, ...]]
) -> None:
    table = made(shared, columns)
    found = shared.copy(table, shared.put(f"{table}/data", content), options)
    if rows:
        assert found == rows
    elif page == "DATEFORMAT":
        assert str(found[0][1]) == "2026-02-03"
    else:
        assert str(found[0][0]) == "1970-01-01 00:00:00"


#: Page, columns, content, options; column, value, code and reason that the system tables show.
REFUSED = [
    ("numbers", TEXT, "x|1\nx|1.5\n", "", 2, "b", "1.5", 1207, "Invalid digit"),
    ("numbers' range", TEXT, "x|2147483648\n", "", 1, "b", "2147483648", 1216, "Overflow"),
    ("bytes, not characters", TEXT, '{"a":"x"}\n{"a":\n"éé😀"}', "JSON 'auto'", 3, "a", "éé😀", 1204, "String length"),
    ("CHAR", "a char(5)", "é\n", "", 1, "a", "é", 1220, "Multibyte"),
    ("UTF-8", TEXT, b"\xff|1\n", "", 1, "a", "?", 1220, "UTF8"),
    ("dates", "d date", "2026-02-30\n", "", 1, "d", "2026-02-30", 1205, "Invalid Date"),
    ("NOT NULL", "a int NOT NULL", "\\N\n", "", 1, "a", "", 1213, "Missing data"),
    ("too many fields", TEXT, "x|1|2|3\n", "", 1, "", "", 1202, "Extra column"),
    ("too few fields", TEXT, "x\n", "", 1, "", "", 1201, "Delimiter"),
    ("no JSON", TEXT, '{"a":"x"}\n{"a":\n', "JSON 'auto'", 2, "", "", 1224, "Invalid JSON"),
    ("boolean", "f boolean", "maybe\n", "", 1, "f", "maybe", 1210, "boolean"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_errors_have_file_line_column_and_value(shared: Redshift, case: tuple[Any, ...]) -> None:
    """Pages "STL_LOAD_ERRORS" and "SYS_LOAD_ERROR_DETAIL"."""
    _, columns, content, options, line, column, value, code, reason = case
    table = made(shared, columns)
    url = shared.put(f"{table}/data", content)
    with pytest.raises(Failed, match="stl_load_errors"):
        shared.copy(table, url, options)
    (error,) = [one for one in shared.errors() if one[0] == f"{table}/data"]
    assert error[1:5] == (line, column, value, code)
    assert reason in error[5]
    other = shared.ask(f"SELECT line_number, error_code FROM sys_load_error_detail WHERE trim(file_name) = '{url}'")
    assert other == [(line, code)]
    assert shared.ask(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_prefix_is_all_files_and_a_manifest_those_that_it_lists(shared: Redshift) -> None:
    """Pages "COPY from Amazon S3", "Using a manifest to specify data files"."""
    table = made(shared, TEXT)
    urls = [shared.put(f"{table}/part{number}", f"x|{number}\n") for number in range(3)]
    shared.copy(table, urls[0][:-1], "")
    assert shared.ask(f"SELECT b FROM {table} ORDER BY 1") == [(0,), (1,), (2,)]
    shared.ask(f"TRUNCATE {table}")
    missing = f"s3://{shared.bucket}/{table}/none"
    with pytest.raises(Failed, match="mandatory"):
        shared.copy(table, shared.manifest(f"{table}.m", urls[1], missing), "MANIFEST")
    lenient = shared.manifest(f"{table}.n", urls[1], missing, mandatory=False)
    assert shared.copy(table, lenient, "MANIFEST") == [("x", 1)]
    with pytest.raises(Failed, match="does not exist"):
        shared.copy(table, missing, "")
    with pytest.raises(Failed, match="No file"):
        shared.copy(table, shared.manifest(f"{table}.o", missing, mandatory=False), "MANIFEST")


def test_json_paths_map_what_names_do_not(shared: Redshift) -> None:
    """Page "COPY from JSON format"."""
    table = made(shared, TEXT)
    paths = shared.put(f"{table}.paths", json.dumps({"jsonpaths": ["$['first name'].x", "$.list[1]"]}))
    url = shared.put(f"{table}/data", '{"first name": {"x": "y"}, "list": [1, 2]}\n{"list": [1]}')
    assert shared.copy(table, url, f"JSON '{paths}'") == [("y", 2), (None, None)]
    for wrong in (["$.a"], ["$..a", "$.b"], ["a", "$.b"]):
        bad = shared.put(f"{table}.bad", json.dumps({"jsonpaths": wrong}))
        with pytest.raises(Failed, match=r"(?i)jsonpath"):
            shared.copy(table, url, f"JSON '{bad}'")


def test_parquet_is_strict_about_types_and_numbers_of_columns(shared: Redshift) -> None:
    """Page "COPY from columnar data formats"."""
    table = made(shared, TEXT)
    for columns, row in (([("a", "string"), ("b", "int64")], ["x", 1]), ([("a", "string")], ["x"])):
        url = shared.put(f"{table}/data", write_parquet(columns, [row]))
        with pytest.raises(Failed, match=r"incompatible|Number of columns"):
            shared.copy(table, url, "FORMAT PARQUET")


def test_a_copy_is_part_of_its_transaction_and_its_errors_are_not(shared: Redshift) -> None:
    table = made(shared, TEXT)
    good, bad = shared.put(f"{table}/good", "x|1\n"), shared.put(f"{table}/bad", "x|y\n")
    copy = f"COPY {table} FROM '{{}}' IAM_ROLE '{ROLE}'"
    shared.ask("BEGIN", copy.format(good), "ROLLBACK")
    assert shared.ask(f"SELECT count(*) FROM {table}") == [(0,)]
    connection = shared.connect()
    with connection.cursor() as cursor:
        for statement in ("BEGIN", copy.format(good)):
            cursor.execute(statement)
        with pytest.raises(Failed):
            cursor.execute(copy.format(bad))
        with pytest.raises(Failed, match="aborted"):
            cursor.execute(f"SELECT count(*) FROM {table}")
        cursor.execute("ROLLBACK")
        cursor.execute("SELECT line_number FROM stl_load_errors WHERE query = pg_last_copy_id()")
        assert cursor.fetchall() == ([1],)
    connection.close()


def test_keys_are_not_enforced_and_bytes_are(shared: Redshift) -> None:
    """Pages "CREATE TABLE", "Character types"."""
    table = made(shared, "a int PRIMARY KEY, v varchar(4) UNIQUE")
    shared.ask(f"INSERT INTO {table} VALUES (1, 'x')", f"INSERT INTO {table} VALUES (1, 'x')")
    assert shared.ask(f"SELECT count(*) FROM {table}") == [(2,)]
    with pytest.raises(Failed, match="too long"):
        shared.ask(f"INSERT INTO {table} VALUES (1, 'ééé')")
    other = made(shared, "v varchar(4), n int")
    shared.ask(f"ALTER TABLE {other} ALTER COLUMN v TYPE varchar(6)", f"INSERT INTO {other} VALUES ('ééé', 1)")
    with pytest.raises(Failed, match="longer than the new"):
        shared.ask(f"ALTER TABLE {other} ALTER COLUMN v TYPE varchar(5)")


@pytest.mark.parametrize("role", ["arn:aws:iam::123456789012:role/other", "arn:aws:iam::000000000000:role/loads"])
def test_roles_that_the_cluster_has_not(shared: Redshift, role: str) -> None:
    """Page "Authorization parameters"."""
    table = made(shared, TEXT)
    with pytest.raises(Failed, match="not authorized"):
        shared.ask(f"COPY {table} FROM 's3://{shared.bucket}/x' IAM_ROLE '{role}'")
    with pytest.raises(redshift_connector.error.Error, match="authentication failed"):
        shared.connect(password="wrong")


#: Page "UNLOAD": options, and names and contents of the files.
UNLOADED = [
    ("", {"0000_part_00": b"x|1\n", "0001_part_00": b"|2\n"}),
    ("PARALLEL OFF", {"000": b"x|1\n|2\n"}),
    ("CSV HEADER PARALLEL OFF NULL AS 'nil'", {"000": b"a,b\nx,1\nnil,2\n"}),
    ("JSON PARALLEL OFF EXTENSION 'json'", {"000.json": b'{"a":"x","b":1}\n{"a":null,"b":2}\n'}),
    ("ADDQUOTES ESCAPE PARALLEL OFF", {"000": b'"x"|"1"\n|"2"\n'}),
]


@pytest.mark.parametrize(("options", "files"), UNLOADED, ids=[one[0] or "text" for one in UNLOADED])
def test_unload_writes(shared: Redshift, options: str, files: dict[str, bytes]) -> None:
    table = made(shared, TEXT)
    shared.ask(f"INSERT INTO {table} VALUES ('x', 1), (NULL, 2)")
    prefix = f"s3://{shared.bucket}/un/{table}_"
    unload = f"UNLOAD ('SELECT * FROM {table} ORDER BY b') TO '{prefix}' IAM_ROLE '{ROLE}' {options}"
    shared.ask(unload)
    found = [key for key in shared.store.keys(shared.bucket) if key.startswith(f"un/{table}_")]
    assert {key.removeprefix(f"un/{table}_"): shared.get(f"s3://{shared.bucket}/{key}") for key in found} == files
    with pytest.raises(Failed, match="not empty"):
        shared.ask(unload)
    shared.ask(f"{unload} ALLOWOVERWRITE")


def test_what_is_unloaded_can_be_copied(shared: Redshift) -> None:
    table, other = made(shared, TEXT), made(shared, TEXT)
    shared.ask(f"INSERT INTO {table} VALUES ('x', 1), (NULL, 2), ('é', 3)")
    for number, form in enumerate(("FORMAT PARQUET", "CSV GZIP", "ZSTD")):
        prefix = f"s3://{shared.bucket}/again/{table}{number}_"
        shared.ask(f"UNLOAD ('SELECT * FROM {table}') TO '{prefix}' IAM_ROLE '{ROLE}' {form} MANIFEST VERBOSE")
        shared.copy(other, f"{prefix}manifest", f"MANIFEST EMPTYASNULL {form}" if number else f"MANIFEST {form}")
        assert sorted(shared.ask(f"SELECT * FROM {other}"), key=str) == sorted(
            shared.ask(f"SELECT * FROM {table}"), key=str
        )
        shared.ask(f"TRUNCATE {other}")
    with pytest.raises(Failed, match="Limit"):
        shared.ask(f"UNLOAD ('SELECT 1 LIMIT 1') TO 's3://{shared.bucket}/l' IAM_ROLE default")


def test_an_external_schema_is_listed(shared: Redshift) -> None:
    for _ in range(2):
        destination(shared).external_schema("lake", "shop")
    found = shared.ask("SELECT schemaname, databasename FROM svv_external_schemas")
    assert found == [("lake", "shop")]
