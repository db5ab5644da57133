"""`tidemill init`, `check` and `doctor`: a project from nothing, what it promises, and what it stands on."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from tidemill.cli.init import FILES

# init


def test_init_writes_every_file_and_names_the_next_command(cli):
    result = cli("init", "my shop")
    assert result.exit_code == 0
    assert result.out.splitlines() == [
        *(f"wrote  my shop/{path}" for path in FILES), "next: cd 'my shop' && tidemill run shop",
    ]  # fmt: skip
    folder = cli.folder / "my shop"
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == set(FILES)
    settings = tomllib.loads((folder / "tidemill.toml").read_text())
    assert settings["project"]["name"] == "my_shop"
    assert json.loads((folder / ".devcontainer" / "devcontainer.json").read_text())["name"] == "my_shop"
    assert not any(
        "@NAME@" in f.read_text() or "@VERSION@" in f.read_text() for f in folder.rglob("*.*") if f.is_file()
    )


def test_init_overwrites_nothing(cli):
    (cli.folder / "tidemill.toml").unlink()
    cli.write("README.md", "mine\n")
    result = cli("init")
    assert result.exit_code == 2
    assert (
        result.err == 'error: "." has files that would be overwritten: README.md.\n  try: tidemill init another_folder'
    )
    assert [f.name for f in cli.folder.iterdir()] == ["README.md"]
    assert (cli.folder / "README.md").read_text() == "mine\n"


def test_the_project_of_init_runs_and_its_own_test_passes(shop):
    """The commands of its README and CI file, in processes of their own."""
    assert shop.process("check").exit_code == 0
    ran = shop.process("run", "shop", "2026-01-01..2026-01-02", new=True)
    assert ran.exit_code == 0, ran.stderr
    told = shop.process("query", "select country, orders, revenue from revenue_by_country order by country").stdout
    assert (
        told
        == "country  orders  revenue\nDK            1     18.0\nNO            3     42.4\nSE            1     24.0\n"
    )
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=shop.folder,
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "2 passed" in tests.stdout


def test_the_file_of_init_runs_by_itself(shop):
    """`python pipelines/shop.py` is what a debugger starts."""
    made = subprocess.run([sys.executable, "pipelines/shop.py"], cwd=shop.folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert shop("query", "select count(*) as n from clean_orders").stdout == "n\n3\n"


# check


def test_check_shows_what_each_table_promises(shop):
    result = shop("check")
    assert result.exit_code == 0
    assert (
        result.out
        == """\
shop  @daily from 2026-01-01 to 2026-01-03, 5 tasks
  pipelines/shop.py:5

  table  write  publish  contract  made by
  orders  append  by run  evolve  files, by interval
  clean_orders  upsert by order_id  by run  evolve  polars function
  revenue_by_country  replace  by run  evolve  SQL

  check of  expects  a failure  rows
  clean_orders  not_null(order_id, country)  fails the run  batch
  clean_orders  between(quantity, 1, 1000)  fails the run  batch
  clean_orders  unique(order_id)  fails the run  whole

valid  1 pipeline  3 tables  3 checks
next: tidemill run shop"""
    )


def test_check_finds_the_syntax_error_of_a_model(cli):
    """Also where it stands in the branch of an incremental run."""
    model = "select 1 as n\n{% if is_incremental() %}\nfrom this\nwher n > 1\n{% endif %}\n"
    cli.write("pipelines/models/bad.sql", model)
    cli.write(
        "pipelines/p.py",
        'import tidemill as tm\np = tm.Pipeline("p")\np.sql("models/bad.sql", materialized="incremental")\n',
    )
    result = cli("check")
    assert result.exit_code == 2
    assert 'did you mean "WHERE"?' in result.err
    assert "pipelines/models/bad.sql:4" in result.err


def test_check_reads_and_writes_no_data(shop):
    shop("check")
    assert not (shop.folder / ".tidemill").exists()


VARIED = """
import tidemill as tm

p = tm.Pipeline("varied", schedule="15m", zone="Europe/London", publish="table")


@p.source(columns={"id": "long", "name": "string"}, contract="freeze", max_rejected=0.01)
def events(bookmark):
    yield {"id": 1, "name": "a"}


p.expect("events", [tm.not_null("name", severity="warn", mostly=0.9), tm.row_count(1, 5)])
p.sql(text="select * from {{ ref('events') }}", name="shown", materialized="view")
"""


def test_check_shows_contracts_thresholds_and_views(cli):
    cli.write("pipelines/varied.py", VARIED)
    result = cli("check", "varied").out
    assert "varied  15m in Europe/London, 4 tasks" in result
    assert (
        "events  append  by table  freeze, 2 columns declared, at most 1.00% rejected  function, by bookmark" in result
    )
    assert "shown  view  by table  -  SQL" in result
    assert "events  not_null(name)  is reported (mostly 0.9)  batch" in result
    assert "events  row_count(1..5): 1 to 5 rows  fails the run  whole" in result
    told = cli("check", "--json").object["pipelines"][0]
    assert told["zone"] == "Europe/London"
    assert told["tables"][0]["contract"]["columns"] == {"id": "long", "name": "string"}


@pytest.mark.parametrize(
    ("code", "what", "where"),
    [
        ("import tidemill as tm\np = tm.Pipeline('a b')\n", '"a b" cannot name a pipeline', None),
        ("import tidemill as tm\np = tm.Pipeline('p')\nx = 1 +\n", "SyntaxError", "pipelines/p.py:3"),
        ("import tidemill as tm\np = tm.Pipeline('p')\n@p.table\ndef t(nothing):\n    return nothing\n",
         'There is no table "nothing".', "pipelines/p.py:3"),
    ],
)  # fmt: skip
def test_check_refuses_what_cannot_run(cli, code, what, where):
    cli.write("pipelines/p.py", code)
    result = cli("check")
    assert result.exit_code == 2
    assert what in result.err
    assert where is None or f"  at: {where}" in result.err


def test_check_of_a_project_without_pipelines(cli):
    result = cli("check")
    assert (result.exit_code, result.err.splitlines()[0]) == (2, "error: The project has no pipeline.")


# doctor


def findings(cli, *arguments):
    return {f["subject"]: f for f in cli("doctor", "--json", *arguments).object["findings"]}


def test_doctor_of_a_healthy_project(shop):
    shop("-q", "run", "shop", "2026-01-01")
    result = shop("doctor")
    assert result.exit_code == 0
    assert {line.split("  ")[0] for line in result.out.splitlines()} == {"ok"}
    found = findings(shop)
    assert found["metadata"]["detail"] == "answers, schema is current; newest batch 1"
    assert found["lake"]["detail"] == ".tidemill/lake is writable"
    assert not list(shop.folder.rglob("doctor-*"))


def test_doctor_says_where_settings_come_from(shop, monkeypatch):
    monkeypatch.setenv("TIDEMILL_LAKE_URL", "elsewhere")
    found = findings(shop)
    assert found["lake.url"]["detail"] == "elsewhere  (TIDEMILL_LAKE_URL)"
    assert found["project.name"]["detail"].endswith("(tidemill.toml)")
    assert found["archive.url"]["detail"].endswith("(default)")


def test_doctor_makes_no_database(shop):
    assert findings(shop)["metadata"]["detail"] == "not there yet: the first command that needs it makes it"
    assert not (shop.folder / ".tidemill" / "tidemill.db").exists()
    assert findings(shop, "--migrate")["metadata"]["detail"].startswith("answers, schema is current, migrated")


def test_doctor_never_shows_a_password(shop, monkeypatch):
    monkeypatch.setenv("TIDEMILL_METADATA_URL", "postgresql://me:hunter2@127.0.0.1:1/lake")
    result = shop("doctor")
    assert "hunter2" not in result.stdout + result.stderr
    assert "postgresql://me:***@127.0.0.1:1/lake" in result.stdout
    assert result.exit_code == 3, "the server is unreachable"


def test_doctor_finds_an_unwritable_lake(shop, monkeypatch):
    (shop.folder / "file").write_text("")
    monkeypatch.setenv("TIDEMILL_LAKE_URL", "file/lake")
    result = shop("doctor")
    assert result.exit_code == 1
    assert "error  lake" in result.out


def test_doctor_finds_a_database_of_another_schema(shop):
    shop("-q", "run", "shop", "2026-01-01")
    import sqlite3

    with sqlite3.connect(shop.folder / ".tidemill" / "tidemill.db") as database:
        (table,) = [n for (n,) in database.execute("select name from sqlite_master where name like '%version%'")
                    if not n.startswith("sqlite_")]  # fmt: skip
        database.execute(f"update {table} set version_num = '9999'")
    found = findings(shop)
    assert found["metadata"]["state"] == "error"
    assert "newer than this Tidemill knows" in found["metadata"]["detail"]
    assert found["metadata"]["hint"] == "pip install --upgrade tidemill"
    assert shop("doctor").exit_code == 2


KILLED = """
import os
import tidemill as tm

p = tm.Pipeline("killed")


@p.source
def rows():
    yield {"id": 1}


@p.table
def dies(rows):
    os._exit(9)
"""


def test_doctor_finds_what_a_dead_process_left(cli):
    cli.write("pipelines/killed.py", KILLED)
    assert cli.process("run", "killed", "k").exit_code == 9
    found = findings(cli)
    assert found["runs"]["state"] == "warning"
    assert "batch 1 was left by a process that is gone" in found["runs"]["detail"]
    assert found["runs"]["hint"] == "tidemill replay 1"
    assert found["leases"]["state"] == "warning"


def test_settings_that_cannot_be_read(cli):
    cli.write("tidemill.toml", "[project]\nnmae = 'x'\n")
    result = cli("data", "ls")
    assert result.exit_code == 2
    assert result.err == (
        'error: There is no setting in [project] "nmae".\n  at: tidemill.toml\n  try: did you mean "name"?'
    )
