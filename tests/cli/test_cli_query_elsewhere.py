"""`tidemill query --engine`: the statement goes to another engine, and its answer is shown as any other."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from harness.commands import CommandLine
from harness.extracting import WaitingClock
from harness.objectstore import ObjectStore
from harness.postgres import Postgres
from harness.redshift import Redshift
from harness.s3keys import KEY, SECRET
from tidemill.adapters.aws.athena import AthenaQueries, Workgroup
from tidemill.adapters.aws.client import Login
from tidemill.model.errors import UserError
from tidemill.plan.asked_sql import only_reads, presto_type, presto_value

MANY = "select i from generate_series(1, {}) as t(i)"
KINDS = """
select 7 as id, 12.50::numeric(9,2) as price, 'é' as name, true as ok, date '2026-01-02' as day,
       timestamp '2026-01-02 03:04:05' as moment, timestamptz '2026-01-02 03:04:05+01' as at, null::text as nothing
"""


@pytest.mark.postgres
def test_postgresql_answers_with_its_types_and_changes_nothing(
    cli: CommandLine, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = postgres.new_database().replace("+psycopg", "")
    with psycopg.connect(address) as connection:
        connection.execute("CREATE SEQUENCE numbers")
    monkeypatch.setenv("TIDEMILL_CONN_SHOP_DB", address)
    told = cli("query", KINDS, "--on", "shop_db", "--json").object
    assert {c["name"]: c["type"] for c in told["columns"]} == {
        "id": "int32", "price": "decimal128(9, 2)", "name": "string", "ok": "bool", "day": "date32[day]",
        "moment": "timestamp[us]", "at": "timestamp[us, tz=UTC]", "nothing": "string",
    }  # fmt: skip
    assert told["rows"][0]["price"] == "12.50"
    assert told["rows"][0]["at"].startswith("2026-01-02T02:04:05")
    shown = cli("query", MANY.format(5), "--engine", "postgres", "--on", "shop_db", "--limit", "2")
    assert shown.stdout.split() == ["i", "1", "2"]
    assert "the first 2 rows shown; there are more" in shown.err
    assert cli("query", MANY.format(2), "--on", "shop_db", "--limit", "2").err == ""
    assert cli("query", "show server_version", "--on", "shop_db").exit_code == 0
    parts = cli("query", "select '{\"a\": [1]}'::json, array[1, 2]", "--on", "shop_db", "--csv", "-")
    assert parts.stdout.splitlines()[1] == '"{""a"": [1]}","[1, 2]"'
    wrong = cli("query", "select * from nowhere", "--on", "shop_db")
    assert wrong.exit_code == 1
    assert 'relation "nowhere" does not exist' in wrong.err
    # What the statement does not say, the server refuses: the transaction only reads.
    hidden = cli("query", "select nextval('numbers')", "--on", "shop_db")
    assert "read-only transaction" in hidden.err


@pytest.mark.postgres
def test_redshift_answers(cli: CommandLine, redshift: Redshift, monkeypatch: pytest.MonkeyPatch) -> None:
    redshift.ask("CREATE TABLE sold (id bigint, price numeric(9,2), name varchar(10))",
                 "INSERT INTO sold VALUES (1, 1.50, 'a'), (2, null, null)")  # fmt: skip
    monkeypatch.setenv("TIDEMILL_CONN_REDSHIFT", f"{redshift.emulator.url}?ssl=false")
    told = cli("query", "select * from sold order by id", "--engine", "redshift", "--json").object
    assert told["rows"] == [{"id": 1, "price": "1.50", "name": "a"}, {"id": 2, "price": None, "name": None}]
    assert [c["type"] for c in told["columns"]] == ["int64", "decimal128(9, 2)", "string"]
    odd = cli("query", "select id % 2 as odd from sold where name like 'a%'", "--engine", "redshift", "--json").object
    assert odd["rows"] == [{"odd": 1}]
    assert "there are more" in cli("query", "select * from sold", "--engine", "redshift", "--limit", "1").err
    assert "Redshift refuses it" in cli("query", "select * from nowhere", "--engine", "redshift").err


@pytest.fixture
def athena(cli: CommandLine, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says what Athena answers next: moto's runs no query, but takes, queues and ends it as Amazon's does."""
    address = f"athena://{KEY}:{SECRET}@?region_name=us-east-1&endpoint_url={object_store.endpoint}"
    monkeypatch.setenv("TIDEMILL_CONN_ATHENA", f"{address}&database=shop&output=s3://results/here")
    object_store.client.create_bucket(Bucket="results")

    def answers(columns: dict[str, str], *rows: list[str | None]) -> None:
        data = [{"Data": [{} if v is None else {"VarCharValue": v} for v in row]} for row in [list(columns), *rows]]
        info = [{"Name": name, "Type": kind, "Precision": 9, "Scale": 2} for name, kind in columns.items()]
        body = {"account_id": "123456789012", "region": "us-east-1", "results": [{"rows": data, "column_info": info}]}
        request = urllib.request.Request(
            f"{object_store.endpoint}/moto-api/static/athena/query-results", json.dumps(body).encode(), method="POST",
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        urllib.request.urlopen(request).close()

    return answers


def test_athena_is_asked_waited_for_and_read(cli: CommandLine, athena: Callable[..., None]) -> None:
    columns = {"id": "bigint", "price": "decimal", "name": "varchar", "at": "timestamp with time zone", "tags": "array"}
    row = ["7", "1.50", "id", "2026-01-02 03:04:05.000000 UTC", "[1, 2]"]
    athena(columns, row, [None] * 5)
    told = cli("query", "select * from latest", "--engine", "athena", "--json").object
    assert [c["type"] for c in told["columns"]] == ["int64", "decimal128(9, 2)", "string", "timestamp[us, tz=UTC]",
                                                    "string"]  # fmt: skip
    assert told["rows"][0] == {"id": 7, "price": "1.50", "name": "id", "at": "2026-01-02T03:04:05+00:00",
                               "tags": "[1, 2]"}  # fmt: skip
    assert set(told["rows"][1].values()) == {None}
    athena({"x": "varchar"}, ["x"], ["y"], ["z"])
    shown = cli("query", "select 'x' as x", "--on", "athena", "--limit", "1")
    assert shown.stdout.split() == ["x", "x"], "the heading is one row, whatever stands below it"
    assert "there are more" in shown.err
    athena({"n": "integer"}, ["seven"])
    assert '"seven" in column "n" is no int' in cli("query", "select 1", "--engine", "athena").err


def test_athena_is_looked_at_ever_more_rarely(athena: Callable[..., None], object_store: ObjectStore) -> None:
    clock = WaitingClock()
    queries = AthenaQueries(
        Login("us-east-1", object_store.endpoint, KEY, SECRET), Workgroup(output="s3://results/here"), clock
    )
    athena({"x": "varchar"}, ["y"])
    slow = {"model_name": "athena::execution", "transition": {"progression": "manual", "times": 6}}
    state(object_store, "set", slow)
    try:
        with queries.ask("select 'y' as x", None) as answer:
            assert [*answer.rows] == [["y"]]
    finally:
        state(object_store, "unset", {"model_name": "athena::execution"})
    assert clock.waits[:3] == [0.1, pytest.approx(0.15), pytest.approx(0.225)]
    assert clock.waits[-1] == max(clock.waits) == 2.0, "never longer"
    assert len(clock.waits) > 8


def state(store: ObjectStore, verb: str, told: dict[str, Any]) -> None:
    """Tell moto how soon what it has been asked for is done."""
    request = urllib.request.Request(
        f"{store.endpoint}/moto-api/state-manager/{verb}-transition", json.dumps(told).encode(), method="POST",
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    urllib.request.urlopen(request).close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["select 1", "--engine", "trino"], "TIDEMILL_CONN_TRINO=trino://..."),
        (["select 1", "--on", "away"], "Trino does not answer"),
        (["select 1", "--on", "clear"], "A password is not sent in the clear"),
        (["select 1", "--on", "odd"], "option"),
        (["select 1", "--on", "mail"], 'is of kind "smtp"'),
        (["select 1", "--engine", "athena", "--on", "away"], 'is of kind "trino"'),
        (["delete from t", "--on", "away"], "this has DELETE"),
        (["select 1", "--on", "away", "--at", "2026-01-01"], "--at and --branch are of the embedded one"),
    ],
)
def test_what_is_wrong_is_told(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    for name, address in {"AWAY": "trino://me@127.0.0.1:1/lake/shop", "MAIL": "smtp://me@example.org",
                          "CLEAR": "trino://me:s3cr3t@127.0.0.1:8080/lake?http_scheme=http", "ODD": "trino://me@127.0.0.1/a?colour=red",
                          }.items():  # fmt: skip
        monkeypatch.setenv(f"TIDEMILL_CONN_{name}", address)
    result = cli("query", *arguments)
    assert result.exit_code != 0
    assert told in result.err
    assert "s3cr3t" not in result.err


@pytest.mark.parametrize("dialect", ["athena", "postgres", "redshift", "trino"])
def test_only_statements_that_read_are_sent(dialect: str) -> None:
    for text in ("select 1;", "with a as (select 1 as x) select * from a", "show tables",
                 "select 1 union all select 2", "describe t"):  # fmt: skip
        assert only_reads(text, dialect) == text.rstrip(";")
    for text in ("drop table t", "delete from t", "insert into t select 1", "select 1; select 2", "select (", "",
                 "vacuum t", "create table t as select 1", "update t set a = 1", "show tables; drop table t",
                 "merge into t using s on t.a = s.a when matched then delete", "truncate table t",
                 "explain analyze delete from t", "call p()"):  # fmt: skip
        with pytest.raises(UserError):
            only_reads(text, dialect)
    if dialect in ("postgres", "redshift"):
        with pytest.raises(UserError):
            only_reads("select a into b from t", dialect)
    if dialect == "postgres":
        with pytest.raises(UserError):
            only_reads("with gone as (delete from t returning a) select * from gone", dialect)


@pytest.mark.parametrize(
    ("name", "text", "kind", "value"),
    [
        ("decimal(38,3)", "1.250", "decimal(38,3)", Decimal("1.250")),
        ("varchar(10)", "a", "string", "a"),
        ("boolean", "true", "boolean", True),
        ("double", "1.5E-3", "double", 0.0015),
        ("date", "2026-01-02", "date", date(2026, 1, 2)),
        ("timestamp(9)", "2026-01-02 03:04:05.123456789", "timestamp", datetime(2026, 1, 2, 3, 4, 5, 123456)),
        ("timestamp(3) with time zone", "2026-01-02 03:04:05.000 Europe/Berlin", "timestamptz",
         datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("timestamp(6) with time zone", "2026-01-02 03:04:05.000000 +01:00", "timestamptz",
         datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("varbinary", "68 69", "binary", b"hi"),
        ("row(a integer)", "{a=1}", "string", "{a=1}"),
    ],
)  # fmt: skip
def test_types_and_values_of_trino_and_athena(name: str, text: str, kind: str, value: Any) -> None:
    found = presto_type(name)
    assert str(found) == kind
    assert presto_value(text, found) == value
    assert presto_value(None, found) is None
