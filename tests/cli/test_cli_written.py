"""A project whose pipelines are YAML alone: checked, run, parsed, and told where it is wrong."""

from __future__ import annotations

import json

import pytest

from harness.commands import CommandLine

SHOP = """\
pipeline: shop
schedule: "@daily"
start: 2026-01-01
sources:
  raw_orders:
    files: in/{{ ds }}.csv
    policy: {email: drop}
    checks: [{not_null: id}, {expect: amount > 0}]
tables:
  orders: {from: raw_orders, key: id, write: upsert}
  revenue:
    sql: models/revenue.sql
    checks: [{unique: country}]
"""


def shop(cli: CommandLine) -> CommandLine:
    cli.write("pipelines/shop.yaml", SHOP)
    cli.write("pipelines/models/revenue.sql", 'select country, sum(amount) as n from {{ ref("orders") }} group by 1\n')
    cli.write("in/2026-01-01.csv", "id,country,amount,email\n1,DE,10,a@x.org\n2,FR,5,b@x.org\n")
    cli.write("in/2026-01-02.csv", "id,country,amount,email\n2,FR,7,b@x.org\n")
    return cli


def test_a_pipeline_of_yaml_alone_is_checked_run_and_read(cli: CommandLine) -> None:
    shop(cli)
    checked = cli("check")
    assert (checked.exit_code, checked.stdout.splitlines()[-2:]) == (
        0, ["valid  1 pipeline  3 tables  3 checks", "next: tidemill run shop"],
    ), checked  # fmt: skip
    assert "evolve, drop email" in checked.stdout
    assert cli("-q", "run", "shop", "2026-01-01..2026-01-02").exit_code == 0
    assert json.loads(
        cli("query", "select * exclude (_batch_id, _loaded_at) from shop.orders order by id", "--json").stdout
    )["rows"] == [{"id": 1, "country": "DE", "amount": 10}, {"id": 2, "country": "FR", "amount": 7}]
    assert cli("run", "pipelines/shop.yaml", "2026-01-01").exit_code == 0
    listed = cli("pipelines", "ls", "--json").object["pipelines"]
    assert [one["pipeline"] for one in listed] == ["shop"]


def test_what_is_wrong_is_told_by_check_and_by_the_parser(cli: CommandLine) -> None:
    shop(cli)
    cli.write("pipelines/shop.yaml", SHOP.replace("files:", "fils:"))
    told = cli("check")
    assert (told.exit_code, told.err) == (
        2,
        'error: There is no setting of a source "fils".\n  at: pipelines/shop.yaml:6:5\n  try: did you mean "files"?',
    )
    errors = cli("pipelines", "ls", "--json").object["errors"]
    assert [one["place"] for one in errors] == ["pipelines/shop.yaml:6:5"]


def test_what_to_try_is_told_in_the_words_of_the_file(cli: CommandLine) -> None:
    told = shop(cli)("run", "shop", "2026-01-03")
    assert told.exit_code == 1
    assert "; optional: true takes a missing file as an empty batch" in told.err


def test_the_schema_for_editors_is_written(cli: CommandLine) -> None:
    assert set(cli("pipelines", "schema").object["properties"]) >= {"pipeline", "schedule", "sources", "tables"}


YAML = "pipeline: laps\nsources:\n  all: {topic: {topic: laps, codec: {avro: laps.avsc}}}\n"
PYTHON = """
    import tidemill as tm
    from tidemill.model.codec import Avro

    laps = tm.Pipeline("laps")

    @laps.stream(tm.topic("laps", codec=Avro("laps.avsc")), to=tm.topic("fast"))
    def fast(laps):
        return laps
"""


KEYS = PYTHON.replace('"laps", codec=', '"laps", {"car": "string"}, key="car", key_codec=')


@pytest.mark.parametrize(
    ("file", "text", "line"), [("laps.yaml", YAML, 3), ("laps.py", PYTHON, 6), ("keys.py", KEYS, 6)]
)
def test_a_schema_file_is_read_where_it_is_declared(cli: CommandLine, file: str, text: str, line: int) -> None:
    """What is wrong with it is found before anything runs."""
    cli.write(f"pipelines/{file}", text)
    schemas = (None, 'no schema file "laps.avsc"'), ('{"type": "recrd"}', 'a type "recrd"'), ("{", "is no JSON")
    for schema, said in schemas:
        if schema is not None:
            cli.write("pipelines/laps.avsc", schema)
        result = cli("check", "laps")
        assert result.exit_code == 2
        assert said in result.err
        assert f"at: pipelines/{file}:{line}" in result.err
    cli.write("pipelines/laps.avsc", '{"type": "record", "name": "Lap", "fields": [{"name": "car", "type": "string"}]}')
    told = cli("check", "laps")
    assert (told.exit_code, told.out.splitlines()[-1]) == (
        0, f"next: tidemill {'run' if file == 'laps.yaml' else 'stream run'} laps"
    )  # fmt: skip


def test_a_model_that_only_the_engine_refuses_is_found_by_check(cli: CommandLine) -> None:
    """To the parser that finds tables, `form "x"."a"` is a column and its alias."""
    model = "    sql: |\n      select id,\n        form {{ ref('a') }}\n"
    cli.write("pipelines/x.yaml", f"pipeline: x\nsources:\n  a: {{files: x.csv}}\ntables:\n  t:\n{model}")
    told = cli("check")
    assert (told.exit_code, told.err.splitlines()[0]) == (2, 'error: SQL syntax error at or near ".".')
    assert "at: pipelines/x.yaml:6" in told.err
