"""Records what Airflow itself writes into its metadata database: the input of tests of `tidemill import airflow`.

    python scripts/record_airflow_databases.py          both versions: some minutes of a slow core
    python scripts/record_airflow_databases.py 3        only that one

Needs `uv`. Each version of Airflow gets an environment of its own below the temporary folder. Airflow makes a database
(SQLite), reads the DAG files of tests/data/airflow/home, and is asked for connections, variables, pools and runs. Of
what it has written then, the tables that are read go to tests/data/airflow/database_<version>.sql.
"""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from record_airflow_answers import VERSIONS as THIRD

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data" / "airflow"
#: What is installed for each; the second version with packages as they were when it was new.
VERSIONS = {
    "2": (["apache-airflow==2.10.5"], ["--exclude-newer", "2025-03-20"]),
    "3": ([f"{name}=={version}" for name, version in THIRD.items()], []),
}
TABLES = ("alembic_version", "connection", "variable", "slot_pool", "dag", "dag_run", "task_instance")
#: Of these databases alone.
FERNET_KEY = "b25seS1mb3ItdGVzdHMtb2YtdGhpcy1wYWNrYWdlISE="


def main(wanted: list[str]) -> int:
    """Record the databases; returns the exit code."""
    uv = shutil.which("uv")
    if uv is None:
        print("There is no uv on PATH.", file=sys.stderr)
        return 3
    for version in wanted or sorted(VERSIONS):
        pins, options = VERSIONS[version]
        work = Path(tempfile.gettempdir()) / "tidemill-airflow-databases"
        python = work / f"venv{version}" / "bin" / "python"
        if not python.exists():
            subprocess.run([uv, "venv", "--quiet", "--python", "3.11", str(python.parents[1])], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *options, *pins], check=True)
        home = work / f"home{version}"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(DATA / "home", home)
        (home / "airflow.cfg").unlink()
        environment = _environment(home)
        subprocess.run([str(python), "-m", "airflow", "db", "migrate"], check=True, env=environment)
        subprocess.run([str(python), __file__, "--inside", str(home)], check=True, env=environment, cwd=home)
        _write(home / "airflow.db", DATA / f"database_{version}.sql")
    return 0


def _environment(home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "VIRTUAL_ENV"))}
    return {
        **clean,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONPATH": f"{Path(__file__).parent}:{home / 'dags'}",
    }


def _write(database: Path, file: Path) -> None:
    """The tables that are read, as SQL; without the columns that hold the folder in which this was made."""
    connection = sqlite3.connect(database)
    names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
    for name in set(names) - set(TABLES) - {"sqlite_sequence"}:
        connection.execute(f"drop table {name}")
    folder = str(database.parent)
    for column in ("fileloc", "processor_subdir"):
        if column in {row[1] for row in connection.execute("pragma table_info(dag)")}:
            statement = f"update dag set {column} = replace({column}, ?, '/srv/airflow')"  # noqa: S608
            connection.execute(statement, (folder,))
    if "hostname" in {row[1] for row in connection.execute("pragma table_info(task_instance)")}:
        connection.execute("update task_instance set hostname = '', unixname = 'me', executor_config = null")
    connection.commit()
    lines = [line for line in connection.iterdump() if "sqlite_sequence" not in line and "CREATE INDEX" not in line]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size} bytes")


# In a process with Airflow --------------------------------------------------------------------------------------------


def _fill(home: Path) -> None:
    models: Any = importlib.import_module("airflow.models")
    session = importlib.import_module("airflow.settings").Session()
    connections: list[dict[str, Any]] = [
        {"conn_id": "shop", "conn_type": "postgres", "host": "db.example", "login": "me", "password": "p@ss/word",
         "schema": "shop", "port": 5432, "extra": '{"sslmode": "require"}'},
        {"conn_id": "api", "uri": "http://https%3A%2F%2Fapi.example/?timeout=5"},
        {"conn_id": "lake", "conn_type": "aws", "login": "AKIA", "password": "secret-key",
         "extra": '{"region_name": "eu-north-1", "deep": {"list": [1, 2]}}'},
        {"conn_id": "with.dots", "conn_type": "ssh", "host": "host"},
    ]  # fmt: skip
    for parts in connections:
        session.add(models.Connection(**parts))
    for key, value in {
        "region": "north",
        "api_token": "a-token",
        "options": '{"places": ["a"]}',
        "nothing": "",
    }.items():
        session.add(models.Variable(key=key, val=value))
    pool: Any = importlib.import_module("airflow.models.pool").Pool
    session.add(pool(pool="reports", slots=4, description="", include_deferred=False))
    session.commit()
    dags = _dags(home, session)
    day = datetime(2026, 1, 10, 1, 30, tzinfo=UTC)
    for at, state in enumerate(["success", "failed", "success", "success", "running"]):
        begin = day + timedelta(days=at)
        _run(dags["nightly"], "scheduled", begin, begin + timedelta(days=1), state, session)
    _run(
        dags["nightly"],
        "manual",
        day + timedelta(days=3, hours=5),
        day + timedelta(days=3, hours=5),
        "success",
        session,
    )
    noon = datetime(2026, 1, 14, 12, tzinfo=UTC)
    for at in range(2):
        tick = noon + timedelta(hours=at)
        _run(dags["ticking"], "scheduled", tick, tick, "success", session)
    session.execute(importlib.import_module("sqlalchemy").text("update dag set is_paused = (dag_id = 'resting')"))
    session.commit()


def _dags(home: Path, session: Any) -> dict[str, Any]:
    """The DAGs of the folder, once Airflow has them on record."""
    try:
        bags: Any = importlib.import_module("airflow.dag_processing.dagbag")
    except ImportError:
        bag = importlib.import_module("airflow.models.dagbag").DagBag(str(home / "dags"), include_examples=False)
        bag.sync_to_db(session=session)
        return dict(bag.dags)
    importlib.import_module("airflow.dag_processing.bundles.manager").DagBundlesManager().sync_bundles_to_db()
    bag = bags.DagBag(str(home / "dags"), bundle_path=home / "dags", bundle_name="dags-folder")
    bags.sync_bag_to_db(bag, "dags-folder", None)
    stored: Any = importlib.import_module("airflow.models.serialized_dag").SerializedDagModel
    return {name: stored.get(name, session=session).dag for name in bag.dags}


def _run(dag: Any, kind: str, begin: datetime, end: datetime, state: str, session: Any) -> None:
    """A run that has ended so (or not), with the ends of its tasks."""
    types: Any = importlib.import_module("airflow.utils.types")
    states: Any = importlib.import_module("airflow.utils.state")
    ended = end + timedelta(minutes=3)
    given = {
        "run_id": f"{kind}__{begin.isoformat()}", "run_type": types.DagRunType(kind), "data_interval": (begin, end),
        "state": states.DagRunState(state), "start_date": end + timedelta(minutes=1), "session": session,
        "logical_date": begin, "execution_date": begin, "run_after": end, "external_trigger": kind == "manual",
    }  # fmt: skip
    if hasattr(types, "DagRunTriggeredByType"):
        given["triggered_by"] = types.DagRunTriggeredByType.TEST
    takes = inspect.signature(dag.create_dagrun).parameters
    made = dag.create_dagrun(**{name: value for name, value in given.items() if name in takes})
    made.state = states.DagRunState(state)
    for at, one in enumerate(sorted(made.get_task_instances(session=session), key=lambda task: task.task_id)):
        last = state == "failed" and at == 1
        one.state = None if state == "running" else ("failed" if last else "success")
        one.try_number = 1
        if state != "running":
            one.start_date, one.end_date = ended - timedelta(seconds=90), ended
    if state != "running":
        made.end_date = ended
    session.commit()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _fill(Path(sys.argv[2]))
        raise SystemExit(0)
    raise SystemExit(main(sys.argv[1:]))
