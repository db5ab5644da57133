"""Redshift's SQL as text: what is written for it, and what the emulator reads and refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.errors import ContractError, DataError, SettingsError, UnknownName
from tidemill.model.redshift import Copying, Form, Layout
from tidemill.model.table import Schema, WriteMode
from tidemill.plan import redshift as sql
from tidemill.plan import redshift_stage as staging
from tidemill.testing.redshift.altering import Known, alter_table
from tidemill.testing.redshift.copying import parse_copy
from tidemill.testing.redshift.faults import Fault
from tidemill.testing.redshift.rewriting import rewritten
from tidemill.testing.redshift.statements import statement_of
from tidemill.testing.redshift.tables import create_table
from tidemill.testing.redshift.tokens import tokens
from tidemill.testing.redshift.types import Type
from tidemill.testing.redshift.unloading import parse_unload

ROLE = "arn:aws:iam::123456789012:role/loads"
COPY = f"COPY t FROM 's3://b/p' IAM_ROLE '{ROLE}' "
UNLOAD = f"UNLOAD ('SELECT 1') TO 's3://b/p' IAM_ROLE '{ROLE}' "
GOLDEN = {
    Form.JSON: "FORMAT AS JSON 'auto' GZIP TIMEFORMAT 'auto' DATEFORMAT 'auto' NULL AS '\\\\N' MAXERROR 10"
    " COMPUPDATE OFF STATUPDATE OFF",
    Form.JSON_PATHS: "FORMAT AS JSON 's3://b/p' GZIP TIMEFORMAT 'auto' DATEFORMAT 'auto' NULL AS '\\\\N' MAXERROR 10"
    " COMPUPDATE OFF STATUPDATE OFF",
    Form.CSV: "FORMAT AS CSV GZIP TIMEFORMAT 'auto' DATEFORMAT 'auto' NULL AS '\\\\N' MAXERROR 10"
    " COMPUPDATE OFF STATUPDATE OFF",
    Form.AVRO: "FORMAT AS AVRO 'auto' TIMEFORMAT 'auto' DATEFORMAT 'auto' NULL AS '\\\\N' MAXERROR 10"
    " COMPUPDATE OFF STATUPDATE OFF",
    Form.PARQUET: "FORMAT AS PARQUET STATUPDATE OFF",
}


@pytest.mark.parametrize("form", list(Form))
def test_copy_statements(form: Form) -> None:
    """Golden, and grammar that the emulator takes."""
    paths = "s3://b/p" if form is Form.JSON_PATHS else None
    made = sql.copy_statement('"s"."t"', "s3://b/m.json", Copying(ROLE, "eu-west-1", form), errors=10, paths=paths)
    # Page "COPY from columnar data formats": files lie in the cluster's region, and REGION is no parameter.
    region = "" if form is Form.PARQUET else " REGION 'eu-west-1'"
    assert made == f"COPY \"s\".\"t\" FROM 's3://b/m.json' IAM_ROLE '{ROLE}'{region} MANIFEST {GOLDEN[form]}"
    read = parse_copy(made)
    kind = "json" if form is Form.JSON_PATHS else form
    assert (read.format, read.url, read.who.roles, read.table) == (kind, "s3://b/m.json", (ROLE,), ("s", "t"))


def test_copy_by_json_paths() -> None:
    made = sql.copy_statement("t", "s3://b/m", Copying(), paths="s3://b/paths.json")
    assert "IAM_ROLE default MANIFEST FORMAT AS JSON 's3://b/paths.json' GZIP" in made
    assert parse_copy(made).how == "s3://b/paths.json"


def test_unload_and_external_schema() -> None:
    made = sql.unload_statement("select 'it''s \\\\'", "s3://b/x_", Copying())
    assert made == ("UNLOAD ('select ''it''''s \\\\\\\\''') TO 's3://b/x_' IAM_ROLE default FORMAT AS PARQUET MANIFEST")
    assert parse_unload(made).query == "select 'it''s \\\\'"
    assert sql.external_schema("lake", "shop", ROLE, "eu-west-1") == (
        "CREATE EXTERNAL SCHEMA IF NOT EXISTS \"lake\" FROM DATA CATALOG DATABASE 'shop' REGION 'eu-west-1'"
        f" IAM_ROLE '{ROLE}'"
    )


@pytest.mark.parametrize(
    "options",
    [
        "FASTER", "GZIP GZIP", "GZIP ZSTD", "CSV JSON", "JSON 'automatic'", "CSV ESCAPE", "CSV REMOVEQUOTES",
        "QUOTE '%'", "DELIMITER '||'", "JSON 'auto' DELIMITER ','", "FORMAT PARQUET GZIP", "FORMAT PARQUET MAXERROR 3",
        "AVRO 'auto' GZIP", "MAXERROR 100001", "MAXERROR 'x'", "ENCODING latin1", "ACCEPTANYDATE", "FORMAT YAML",
        "SERIALIZETOJSON", "NULL 'x'", "FIXEDWIDTH 'a:1'", "LZOP", "FORMAT ORC", "ENCRYPTED", "NOLOAD",
        f"IAM_ROLE '{ROLE}'", "REGION", "AVRO 'noshred'", "EXPLICIT_IDS",
    ],
)  # fmt: skip
def test_options_that_copy_refuses(options: str) -> None:
    with pytest.raises(Fault):
        parse_copy(COPY + options)


@pytest.mark.parametrize(
    "text",
    ["COPY t FROM 'emr://x' IAM_ROLE default", "COPY t FROM 's3://b/p'", "COPY t 's3://b/p'", COPY + "CSV ;;;x",
     "COPY t FROM 's3://b/p' IAM_ROLE 'admin'", "COPY t FROM 's3://b/p' CREDENTIALS 'key=1'"],
)  # fmt: skip
def test_grammar_that_copy_refuses(text: str) -> None:
    with pytest.raises(Fault):
        parse_copy(text)


@pytest.mark.parametrize(
    "options",
    ["ORDERED", "FORMAT PARQUET HEADER", "JSON DELIMITER ','", "CSV ADDQUOTES", "GZIP BZIP2", "MAXFILESIZE 1 MB",
     "ALLOWOVERWRITE CLEANPATH", "PARTITION BY (a)", "ENCRYPTED AUTO", "FIXEDWIDTH '1:2'", "FORMAT ORC", "CSV CSV"],
)  # fmt: skip
def test_options_that_unload_refuses(options: str) -> None:
    with pytest.raises(Fault):
        parse_unload(UNLOAD + options)


@settings(max_examples=25)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_literal_is_one_token_whatever_is_in_it(text: str) -> None:
    (found,) = tokens(sql.literal(text))
    assert (found.kind, found.value) == ("text", text)
    statement = sql.unload_statement(f"SELECT {sql.literal(text)}", "s3://b/p", Copying())
    assert tokens(parse_unload(statement).query)[1].value == text


def test_a_nul_is_in_no_literal() -> None:
    with pytest.raises(DataError):
        sql.literal("a\0b")


@pytest.mark.parametrize(
    ("length", "room"), [(0, 16), (16, 16), (17, 32), (256, 256), (257, 512), (40_000, 65_535), (65_535, 65_535)]
)
def test_a_varchar_has_room(length: int, room: int) -> None:
    assert sql.room(length) == room
    with pytest.raises(DataError):
        sql.room(65_536)


def test_a_table_is_made_with_its_layout() -> None:
    columns = Schema.of({"id": "long", "name": "string", "day": "date not null", "tags": "list<string>", "b": "binary"})
    layout = Layout("id", None, ("day", "id"), {"name": "ZSTD"})
    made = sql.creating("shop.t", columns, {"name": 100}, ("id",), layout)
    assert made == [
        'CREATE SCHEMA IF NOT EXISTS "shop"',
        'CREATE TABLE "shop"."t" ("id" bigint NOT NULL, "name" character varying(128) ENCODE zstd, "day" date NOT NULL,'
        ' "tags" super, "b" varbyte) DISTSTYLE KEY DISTKEY ("id") COMPOUND SORTKEY ("day", "id")',
    ]
    assert create_table(made[1])[0].startswith('CREATE TABLE "shop"."t" ("id" bigint NOT NULL,')
    with pytest.raises(UnknownName, match="nme"):
        sql.creating("t", columns, {}, (), Layout(encode={"nme": "raw"}))


@pytest.mark.parametrize("wrong", [{"diststyle": "any"}, {"distkey": "a", "diststyle": "even"}, {"encode": {"a": "z"}}])
def test_layouts_that_are_none(wrong: dict[str, object]) -> None:
    with pytest.raises((SettingsError, UnknownName)):
        Layout(**wrong)  # type: ignore[arg-type]


def test_texts_are_lengthened_before_and_other_types_within_the_transaction() -> None:
    have = {"v": sql.Have("character varying(16)"), "n": sql.Have("integer")}
    made = sql.fitting("t", have, Schema.of({"v": "string", "n": "long", "new": "double"}), {"v": 17})
    assert made.before == ['ALTER TABLE "t" ALTER COLUMN "v" TYPE character varying(32)']
    assert made.within[0] == 'ALTER TABLE "t" ADD COLUMN "_tidemill_n" bigint'
    assert made.within[-1] == 'ALTER TABLE "t" ADD COLUMN "new" double precision'
    assert sql.fitting("t", have, Schema.of({"v": "string", "n": "int"}), {"v": 16}) == sql.Fitting()
    for placed in (sql.Have("integer", placed=True), sql.Have("integer", nullable=False)):
        with pytest.raises(ContractError, match="widens no column"):
            sql.fitting("t", {"n": placed}, Schema.of({"n": "long"}), {})


def test_what_a_format_does_not_carry_waits_as_text() -> None:
    columns = Schema.of({"b": "binary", "s": "list<long>", "t": "time", "z": "timestamptz"})
    (_, json, _, _), (_, csv, _, _) = (staging.staged(columns, form, {}) for form in (Form.JSON, Form.CSV))
    assert (json.type, json.entered) == ("super", "c1")
    assert (csv.type, csv.entered) == ("character varying(65535)", "json_parse(c1)")
    parquet = staging.staged(columns, Form.PARQUET, {"b": 20})
    assert [one.entered for one in parquet] == [
        "from_hex(c0)", "json_parse(c1)", "CAST(c2 AS time)", "(c3 AT TIME ZONE 'UTC')",
    ]  # fmt: skip
    assert parquet[0].type == "character varying(64)"


def test_an_upsert_is_written_without_what_redshift_has_not() -> None:
    columns = staging.staged(Schema.of({"k": "long", "o": "long"}), Form.JSON, {})
    made = [
        staging.newest("st", ["k", "o"], columns, ["k"], "o"),
        staging.superseded("s.t", "st", ["k"], "o"),
        staging.upserted("s.t", "st", ["k", "o"], ["k"]),
        staging.doubled("s.t", "st", ["k"]),
        *staging.entering("s.t", "st", ["k", "o"], columns, WriteMode.REPLACE),
        staging.without_batches("s.t", [1, 2], "_batch_id"),
        staging.without_keys("s.t", "gone", ["k"], columns[:1]),
    ]
    for statement in made:
        assert rewritten(statement)
    assert made[1] == (
        'DELETE FROM "s"."t" USING st_newest WHERE "t"."k" = st_newest."k" AND ("t"."o" IS NULL OR'
        ' st_newest."o" >= "t"."o")'
    )


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "SELECT DISTINCT ON (a) a FROM t", "SELECT 1 FOR UPDATE",
        "INSERT INTO t VALUES (1) RETURNING a", "SELECT to_regclass('t')", "SELECT '1'::jsonb",
        "CREATE INDEX i ON t (a)",
        "CREATE TABLE t (a bytea)", "CREATE TABLE t (a int CHECK (a > 1))", "CREATE TABLE t (a uuid)",
        "CREATE TABLE t (a varchar(65536))", "CREATE TABLE t (a super DISTKEY)",
        "CREATE TABLE t (a int ENCODE text255)",
        "CREATE TABLE t (a int) DISTSTYLE KEY", "CREATE TABLE t (a int) SORTKEY (b)", "CREATE TABLE t (a numeric(39))",
        "CREATE EXTERNAL TABLE s.t (a int)", "MERGE INTO t USING s ON 1=1", "GRANT SELECT ON t TO x",
        "SET work_mem TO 1",
        "CREATE FUNCTION f() RETURNS int", "SELECT 'x", "VALUES (1)", "CREATE TABLE t (a int, b geometry)",
        # PostgreSQL would run all of these.
        "SELECT 1 WHERE a IS DISTINCT FROM b", "SELECT count(*) FILTER (WHERE a > 1) FROM t", "SELECT ARRAY[1]",
        "SELECT a -> 'x' FROM t", "SELECT a @> b FROM t", "SELECT a ? 'x' FROM t", "SELECT * FROM (VALUES (1)) v",
        "SELECT a FROM t FETCH FIRST 1 ROW ONLY", "SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY b)",
        "SELECT CAST(a AS jsonb) FROM t", "SELECT a::text[] FROM t", "SELECT a::oid FROM t", "SELECT E'a'",
        "SELECT ctid FROM t",
        "WITH x AS (DELETE FROM t) SELECT 1", "SELECT mode() WITHIN GROUP (ORDER BY a) FROM t", "SELECT public.f(1)",
        "SELECT concat(a, b) FROM t", "SELECT string_agg(a, ',') FROM t", 'SELECT "jsonb_typeof"(a) FROM t',
        "LOCK t IN SHARE MODE", "TRUNCATE t, s", "VACUUM t ANALYZE", "EXPLAIN ANALYZE SELECT 1", "COMMIT AND CHAIN",
        "BEGIN ISOLATION LEVEL READ COMMITTED", "UPDATE t SET (a, b) = (1, 2)", "DELETE FROM ONLY t",
    ],
)  # fmt: skip
def test_sql_that_the_emulator_refuses(text: str) -> None:
    with pytest.raises(Fault):
        statement = statement_of(text)
        create_table(statement.sql)


@pytest.mark.parametrize(
    "text",
    [
        "WITH x (a, b) AS (SELECT 1, 2), y (c) AS (SELECT 3) SELECT * FROM x, y", 'INSERT INTO "s"."t" ("a") SELECT 1',
        "INSERT INTO s.t (a) VALUES (1)", "SELECT * FROM (SELECT 1) v (a) WHERE a IN (1, 2)", "VACUUM",
        "SELECT CAST(a AS decimal(9, 2)), a::varchar(3), count(*) OVER (PARTITION BY b) AS json FROM t", "TRUNCATE s.t",
        "SELECT pg_catalog.lower(a), coalesce(a, 'x') FROM t WHERE EXISTS (SELECT 1)", "VACUUM BOOST",
        "VACUUM FULL t TO 99 PERCENT BOOST",
        "CREATE VIEW v (a) AS SELECT 1", "SELECT a[0], b # 1 FROM t", "ANALYZE t (a)", "SELECT ~a, - a FROM t",
    ],
)  # fmt: skip
def test_sql_that_both_have_is_handed_on(text: str) -> None:
    assert statement_of(text)


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("ALTER TABLE t ALTER COLUMN n TYPE bigint", False), ("ALTER TABLE t ALTER COLUMN v TYPE varchar(99)", True),
        ("ALTER TABLE t ALTER COLUMN k TYPE varchar(99)", False), ("ALTER TABLE t DROP COLUMN d", False),
        ("ALTER TABLE t ALTER COLUMN e TYPE varchar(99)", False), ("ALTER TABLE t ADD COLUMN x int NOT NULL", False),
        ("ALTER TABLE t ADD PRIMARY KEY (k)", False), ("ALTER TABLE t APPEND FROM s", False),
        ("ALTER TABLE t ALTER COLUMN e ENCODE text255", False), ("ALTER TABLE t ALTER COLUMN v ENCODE az64", False),
        ("ALTER TABLE t ALTER DISTKEY s", False), ("ALTER TABLE t ALTER INTERLEAVED SORTKEY (n)", False),
        ("ALTER TABLE t ALTER DISTSTYLE KEY", False),
    ],
)  # fmt: skip
def test_tables_are_altered_only_as_redshift_does(text: str, within: bool) -> None:
    """Page "ALTER TABLE"."""
    varchar = Type("character varying", 16)
    columns = {
        "n": Known(Type("integer"), {}), "v": Known(varchar, {}), "k": Known(varchar, {"keyed": True}),
        "d": Known(varchar, {"distkey": True}), "e": Known(varchar, {"encode": "text255"}),
        "s": Known(Type("super"), {}),
    }  # fmt: skip
    with pytest.raises(Fault):
        alter_table(text, lambda _table: columns, in_transaction=within)
    assert alter_table("ALTER TABLE t ALTER COLUMN v TYPE varchar(99)", lambda _table: columns, in_transaction=False)
