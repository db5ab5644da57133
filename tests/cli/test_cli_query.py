"""`tidemill query`: the screen, files, and the moment that is read."""

from __future__ import annotations

import csv
import io
import json

import polars as pl
import pytest

VALUES = """
select * from (values
    (1, 'a', 1.5, true, timestamp '2026-01-02 03:04:05', [1, 2]),
    (2, null, null, null, null, null),
    (3, 'he said "hi"; x', 0.1, false, timestamp '2026-01-02 00:00:00', [])
) t(id, name, amount, flag, moment, tags) order by id
"""


def test_a_result_is_an_aligned_table(cli):
    assert (
        cli("query", VALUES).stdout
        == """\
id  name             amount  flag   moment               tags
 1  a                   1.5  true   2026-01-02 03:04:05  [1, 2]
 2  null               null  null   null                 null
 3  he said "hi"; x     0.1  false  2026-01-02 00:00:00  []
"""
    )


def test_many_rows_are_cut_and_counted(cli):
    result = cli("query", "select i from range(1000) t(i)")
    assert len(result.stdout.splitlines()) == 101
    assert result.err == "100 of 1,000 rows shown"
    assert len(cli("query", "select i from range(1000) t(i)", "--limit", "0").stdout.splitlines()) == 1001


def test_wide_values_are_cut_and_counted(cli):
    result = cli("query", "select repeat('x', 500) as long, 1 as one")
    assert result.stdout.splitlines()[1] == "x" * 47 + "…    1"
    assert result.err == "1 value cut to the width of the column (--json has all)"


def test_json_has_columns_and_all_rows(cli):
    told = cli("query", VALUES, "--json").object
    assert [c["name"] for c in told["columns"]] == ["id", "name", "amount", "flag", "moment", "tags"]
    assert told["rows"][0] == {
        "id": 1, "name": "a", "amount": "1.5", "flag": True, "moment": "2026-01-02T03:04:05", "tags": [1, 2],
    }  # fmt: skip
    assert told["rows"][1]["name"] is None
    assert len(cli("--json", "query", "select i from range(1000) t(i)").object["rows"]) == 1000


@pytest.mark.parametrize(
    "arguments",
    [["--json", "query", "select 1 as x"], ["query", "--json", "select 1 as x"], ["query", "select 1 as x", "--json"],
     ["query", "select 1 as x", "--json", "-"]],
)  # fmt: skip
def test_json_may_stand_anywhere(cli, arguments):
    assert cli(*arguments).object == {"columns": [{"name": "x", "type": "int32"}], "rows": [{"x": 1}]}


def test_an_empty_result(cli):
    assert cli("query", "select 1 as x where false").stdout == "x\n"
    assert cli("query", "select 1 as x where false", "--json").object["rows"] == []
    assert cli("query", "select 1 as x where false", "--csv", "-").stdout == "x\n"


def test_csv_to_standard_output(cli):
    result = cli("query", VALUES, "--csv", "-")
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows == [
        ["id", "name", "amount", "flag", "moment", "tags"],
        ["1", "a", "1.5", "true", "2026-01-02 03:04:05", "[1, 2]"],
        ["2", "", "", "", "", ""],
        ["3", 'he said "hi"; x', "0.1", "false", "2026-01-02 00:00:00", "[]"],
    ]


def test_files(cli):
    assert cli("query", VALUES, "--csv", "a.csv").out == "wrote  a.csv  3 rows"
    assert cli("query", VALUES, "--parquet", "a.parquet").out == "wrote  a.parquet  3 rows"
    assert cli("query", VALUES, "--json", "a.json").stdout == ""
    assert pl.read_csv(cli.folder / "a.csv")["id"].to_list() == [1, 2, 3]
    assert pl.read_parquet(cli.folder / "a.parquet")["tags"].to_list() == [[1, 2], None, []]
    assert len(json.loads((cli.folder / "a.json").read_text())["rows"]) == 3


def test_a_query_that_fails_leaves_the_file_as_it_was(cli):
    (cli.folder / "a.csv").write_text("precious")
    result = cli("query", "select error('late') from range(10)", "--csv", "a.csv")
    assert result.exit_code != 0
    assert (cli.folder / "a.csv").read_text() == "precious"
    assert {f.name for f in cli.folder.iterdir()} == {"a.csv", "tidemill.toml", ".tidemill"}


def test_sql_from_standard_input(cli):
    assert cli("query", "-", given="select 7 as x").stdout == "x\n7\n"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from nowhere", 'There is no table "nowhere".'),
        ("drop table x", "A statement that only reads is wanted"),
        ("select * from tidemill.batchs", 'There is no table "tidemill.batchs".'),
    ],
)
def test_what_cannot_be_read(cli, sql, message):
    result = cli("query", sql)
    assert result.exit_code == 2
    assert result.err.startswith(f"error: {message}")


def test_one_target_at_a_time(cli):
    result = cli("query", "select 1", "--csv", "-", "--json")
    assert (result.exit_code, result.err.splitlines()[0]) == (
        2, "error: One of --csv, --json and --parquet can be written at a time.",
    )  # fmt: skip


def test_tables_by_full_and_bare_name(published):
    assert published("query", "select count(*) as n from shop.orders").stdout == "n\n7\n"
    assert published("query", "select count(*) as n from orders").stdout == "n\n7\n"


def test_system_tables(published):
    told = published("query", "select batch_id, state from tidemill.batches").out
    assert told.splitlines() == ["batch_id  state", "       1  published", "       2  published"]
    told = published("query", "select r.state, count(*) as n from tidemill.tasks t join tidemill.runs r using (run_id) "
                           "group by 1").stdout  # fmt: skip
    assert told == "state     n\nsuccess  10\n"


def test_at_a_time_reads_all_tables_as_they_were(filled):
    with_first = filled("query", "select max(published_at)::text as moment from tidemill.batches", "--json").object
    moment = with_first["rows"][0]["moment"]
    assert filled("-q", "run", "shop", "2026-01-02").exit_code == 0
    both = "select (select count(*) from orders) as a, (select sum(orders)::int from revenue_by_country) as b"
    assert filled("query", both).stdout == "a  b\n7  5\n"
    later = moment.replace("+00", "+00:00") if moment.endswith("+00") else moment
    assert filled("query", both, "--at", later).stdout in ("a  b\n4  3\n",)


def test_a_time_that_is_none(published):
    result = published("query", "from orders", "--at", "yesterday")
    assert result.exit_code == 2
    assert result.err.startswith('error: "yesterday" is neither a time nor a snapshot.')
