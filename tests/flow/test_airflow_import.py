"""`tidemill import airflow`: what Airflow itself has written, versions 2 and 3, is told, taken over, and never changed.

The databases are made by `scripts/record_airflow_databases.py`.
"""

import hashlib
import json
import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from harness.commands import CommandLine
from tidemill.model.errors import SettingsError, Unreachable, UserError
from tidemill.model.masking import GIVEN
from tidemill.model.run import RunKind, RunState, TaskState
from tidemill.plan.due import due_for
from tidemill.plan.settings_text import with_patterns, with_values
from tidemill.wiring.airflow_import import import_airflow
from tidemill.wiring.parsing import _said_to_run
from tidemill.wiring.secrets import connections_of, variables_of
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings

DATA = Path(__file__).parents[1] / "data" / "airflow"
KEY = "b25seS1mb3ItdGVzdHMtb2YtdGhpcy1wYWNrYWdlISE="


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Makes an AIRFLOW_HOME whose database a version of Airflow has written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", KEY)
    monkeypatch.setattr("sys.path", list(sys.path))

    def made(version):
        folder = tmp_path / "moved"
        shutil.copytree(DATA / "home", folder)
        with closing(sqlite3.connect(folder / "airflow.db")) as database:
            database.executescript((DATA / f"database_{version}.sql").read_text("utf-8"))
        monkeypatch.chdir(folder)
        return folder

    yield made
    GIVEN.forget()


def _told(found):
    return {(one.kind, one.name): one.state for one in found.items}


def _state(folder):
    """What there is on record, without when it was looked at."""
    database = folder / ".tidemill" / "tidemill.db"
    tables = {}
    with closing(sqlite3.connect(database)) as connection:
        for table in ("runs", "task_runs", "batches", "pipelines", "secrets", "definitions"):
            names = [
                row[1]
                for row in connection.execute(f"pragma table_info({table})")
                if row[1] not in ("seen_at", "next_at")
            ]
            tables[table] = connection.execute(f"select {', '.join(names)} from {table}").fetchall() if names else []
    return tables, (folder / "tidemill.toml").read_text("utf-8")


def test_an_installation_is_told_and_taken_over(home):
    _taken_over(home("2"), "2.10.3")


def test_a_second_time_changes_nothing_and_postgresql_is_read_as_well(home, postgres):
    """The second time from the same tables on the server that most installations have."""
    folder = home("3")
    told = _taken_over(folder, "3.3.0")
    state = _state(folder)
    again = import_airflow(_on_a_server(folder, postgres), None, write=True, most=25)
    assert (again.version, again.runs) == ("3.3.0", 0)
    assert {one.state for one in again.items if one.kind == "dag"} == {"runs"}
    assert {state for key, state in _told(again).items() if key[0] in ("connection", "variable", "pool")} == {
        "there",
        "no",
    }
    assert {key for key in _told(again) if key[0] == "dag"} == {key for key in told if key[0] == "dag"}
    assert _state(folder) == state


def _taken_over(folder, version):
    """Look, change nothing by it, then take over what was told."""
    before = hashlib.sha256((folder / "airflow.db").read_bytes()).hexdigest()
    found = import_airflow(".", None, write=False, most=25)
    assert (found.wrote, found.version) == (False, version)
    assert sorted(path.name for path in folder.iterdir()) == ["airflow.cfg", "airflow.db", "dags"]
    assert _told(found) == {
        **{("setting", f"airflow.{name}"): "new" for name in
           ("max_active_runs", "max_active_tasks", "timezone", "ignore", "catchup")},
        ("setting", "scheduler.workers"): "new", ("pool", "reports"): "new",
        ("connection", "shop"): "new", ("connection", "api"): "new", ("connection", "lake"): "new",
        ("connection", "with.dots"): "no", ("variable", "nothing"): "no", ("variable", "region"): "new",
        ("variable", "api_token"): "new", ("variable", "options"): "new",
        ("file", "dags/asks.py"): "no",
        **{("dag", name): "runs" for name in ("nightly", "ticking", "resting", "by_hand")},
    }  # fmt: skip
    broken = next(one for one in found.items if one.kind == "file")
    assert broken.place == "dags/asks.py:4"
    assert '"airflow.providers.google" of Airflow is not served here' in broken.said
    assert "airflow.cfg [core] means nothing here: executor" in found.notes

    wrote = import_airflow(".", None, write=True, most=25)
    assert (_told(wrote), wrote.runs) == (_told(found), 7)
    _check_taken(load_settings(folder))
    assert hashlib.sha256((folder / "airflow.db").read_bytes()).hexdigest() == before
    return _told(wrote)


def _check_taken(settings):
    assert (settings.pipelines, settings.pools, settings.workers) == (("dags/**/*.py",), {"reports": 4}, 6)
    assert (settings.airflow.max_active_runs, settings.airflow.ignore) == (3, "glob")
    shop = connections_of(settings).get("shop")
    assert (shop["password"], shop["extra"], shop["port"]) == ("p@ss/word", {"sslmode": "require"}, 5432)
    assert connections_of(settings).get("lake")["extra"]["deep"] == {"list": [1, 2]}
    assert connections_of(settings).get("api")["conn_type"] == "https"
    assert variables_of(settings).get("options") == '{"places": ["a"]}'
    with closing(open_metadata(settings, system_clock())) as metadata, metadata.read() as tx:
        records = {one.name: one for one in tx.definitions.pipelines()}
        assert {name for name, one in records.items() if one.paused} == {"resting"}
        runs = tx.runs.recent(pipeline="nightly")
        failed = next(run for run in runs if run.state is RunState.FAILED)
        assert [(task.task, task.state) for task in tx.runs.tasks(failed.id)] == [
            ("load", TaskState.SUCCESS), ("tell", TaskState.FAILED)
        ]  # fmt: skip
        assert failed.created_at == datetime(2026, 1, 12, 1, 31, tzinfo=UTC)
        assert {tx.runs.order(run.id).kind for run in runs} == {RunKind.SCHEDULED, RunKind.MANUAL}
        now = datetime(2026, 1, 15, 2, tzinfo=UTC)
        nexts = {
            name: due_for(tx.definitions.get(one.definition_id), now, one.newest, 9).intervals
            for name, one in records.items()
        }
    # The run that had not ended there is the first one here; without catch-up, the latest one is.
    assert [str(one) for one in nexts["nightly"]] == ["2026-01-14T01:30..2026-01-15T01:30"]
    assert [str(one) for one in nexts["ticking"]] == ["2026-01-15T01:00..2026-01-15T02:00"]


def test_what_is_encrypted_needs_its_key(home, monkeypatch):
    home("3")
    monkeypatch.delenv("AIRFLOW__CORE__FERNET_KEY")
    found = {one.name: one for one in import_airflow(".", None, write=False, most=0).items}
    assert (found["shop"].state, found["shop"].said) == ("no", "it is encrypted: set AIRFLOW__CORE__FERNET_KEY")
    assert found["with.dots"].state == found["region"].state == "no"
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", KEY.replace("b25", "c25"))
    found = {one.name: one for one in import_airflow(".", None, write=False, most=0).items}
    assert "another one than it was encrypted by" in found["shop"].said
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "short")
    with pytest.raises(SettingsError, match="no key of Fernet"):
        import_airflow(".", None, write=False, most=0)


def test_a_database_of_another_version_is_told_of(home, tmp_path):
    folder = home("3")
    url = f"sqlite:///{folder / 'airflow.db'}"
    with closing(sqlite3.connect(folder / "airflow.db")) as database:
        database.execute("update alembic_version set version_num = 'ffff00001111'")
        database.commit()
    found = import_airflow(".", None, write=False, most=0)
    assert found.version is None
    assert found.notes[0].startswith("the database has revision ffff00001111, which is none of Airflow 2.6 to 3.3")
    with pytest.raises(UserError, match="There is no project at or above"):
        import_airflow(url, tmp_path, write=False, most=0)
    (folder / "tidemill.toml").write_text('[project]\nname = "p"\n')
    with closing(sqlite3.connect(folder / "airflow.db")) as database:
        database.execute("alter table dag_run rename column data_interval_end to gone")
        database.commit()
    with pytest.raises(SettingsError, match='"dag_run" of Airflow has no column data_interval_end'):
        import_airflow(url, None, write=False, most=0)
    with closing(sqlite3.connect(folder / "airflow.db")) as database:
        database.execute("drop table slot_pool")
        database.commit()
    with pytest.raises(SettingsError, match="no database of Airflow's: it has no table slot_pool"):
        import_airflow(url, None, write=False, most=0)
    for wrong, error in (("sqlite:////nowhere.db", SettingsError), ("nothing://x", SettingsError),
                         ("postgresql://me:pass-word@127.0.0.1:1/x", Unreachable)):  # fmt: skip
        with pytest.raises(error) as raised:
            import_airflow(wrong, None, write=False, most=0)
        assert "pass-word" not in str(raised.value)


def test_a_project_that_is_there_keeps_what_it_has(home, tmp_path):
    folder = home("3")
    text = '# ours\n[project]\nname = "ours"   # a name\npipelines = [\n  "flows/*.py",\n]\n\n[pools]\nreports = 9\n'
    (folder / "tidemill.toml").write_text(text)
    settings = load_settings(folder)
    with _said_to_run(settings), pytest.raises(UserError, match="The project is running"):
        import_airflow(".", None, write=True, most=0)
    with (folder / "dags" / "more.py").open("w") as file:
        file.write("from airflow import DAG\nfrom airflow.operators.bash import BashOperator\n"
                   "with DAG('more', schedule=None):\n"
                   "    BashOperator(task_id='a', bash_command='echo', pool='none', params={})\n")  # fmt: skip
    cli = CommandLine(folder)
    dry = cli("import", "airflow", "dags")
    assert dry.exit_code == 0, dry.stderr
    assert (folder / "tidemill.toml").read_text() == text
    assert "pool none no more.a waits for it, and it is not here dags/more.py:4" in " ".join(dry.stdout.split())
    done = cli("import", "airflow", ".", "--write", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["wrote"] is True
    pool = next(one for one in told["items"] if one["name"] == "reports")
    assert (pool["here"], pool["why"]) == ("there", "9 here, 4 there")
    now = (folder / "tidemill.toml").read_text()
    assert now.startswith(
        '# ours\n[project]\nname = "ours"   # a name\npipelines = ["flows/*.py", "dags/**/*.py"]\n\n[pools]'
    )
    assert load_settings(folder).pools == {"reports": 9}
    (tmp_path / "other").mkdir()
    shutil.copytree(folder / "dags", tmp_path / "elsewhere" / "dags")
    with pytest.raises(UserError, match="The folder of DAGs is not in the project"):
        import_airflow(str(tmp_path / "elsewhere" / "dags"), None, write=False, most=0)


#: Types of SQLite's tables, as PostgreSQL has them.
_TYPES = {"INTEGER": "bigint", "TIMESTAMP": "timestamptz", "BOOLEAN": "boolean", "FLOAT": "float8", "BLOB": "bytea"}


def _on_a_server(folder, postgres):
    """The address of a copy of an installation's database there."""
    url = postgres.new_database()
    with closing(sqlite3.connect(folder / "airflow.db")) as source, psycopg.connect(url) as target:
        target.execute("set timezone = 'UTC'")
        for (table,) in source.execute("select name from sqlite_master where type = 'table'").fetchall():
            kinds = {row[1]: _TYPES.get(row[2], "text") for row in source.execute(f"pragma table_info({table})")}
            columns = ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())
            target.execute(f"create table {table} ({columns})")
            values = ", ".join(f"%s::text::{kind}" if kind != "bytea" else "%s" for kind in kinds.values())
            for row in source.execute(f"select * from {table}"):
                target.execute(f"insert into {table} values ({values})", row)
    return url


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("", '[project]\npipelines = ["a", "b"]\n'),
        ("[web]\nport = 1", '[web]\nport = 1\n\n[project]\npipelines = ["a", "b"]\n'),
        ('[project]\nname = "x"\n[web]\n', '[project]\npipelines = ["a", "b"]\nname = "x"\n[web]\n'),
        ('[project]\npipelines = "a" # x\n', '[project]\npipelines = ["a", "b"] # x\n'),
    ],
)
def test_patterns_are_added_and_the_rest_stays(text, made):
    assert with_patterns(text, ["a"], "b") == made
    assert with_values(made, "pools", {"x y": 3}).endswith('\n\n[pools]\n"x y" = 3\n')
