"""Reads Airflow's metadata database, of versions 2 and 3: nothing is written, and no table is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from tidemill.model import airflow
from tidemill.model.errors import SettingsError, Unreachable
from tidemill.model.masking import GIVEN, hide
from tidemill.plan.airflow_move import ENDED, TIMELY, Kept, Past, PastDag, PastRun, PastTask

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet
    from sqlalchemy import Connection, Engine, Table

#: Drivers that we bring, in place of those that Airflow's addresses name.
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg",
            "postgresql+psycopg2": "postgresql+psycopg", "mysql": "mysql+pymysql",
            "mysql+mysqldb": "mysql+pymysql"}  # fmt: skip
#: Columns that are read; those in brackets only where they are there.
_COLUMNS = {
    "connection": ("conn_id", "conn_type", "host", "schema", "login", "port", "password", "extra", "is_encrypted",
                   "is_extra_encrypted", "[description]"),
    "variable": ("key", "val", "is_encrypted"),
    "slot_pool": ("pool", "slots"),
    "dag": ("dag_id", "is_paused", "[is_stale]", "[is_active]"),
    "dag_run": ("dag_id", "run_id", "run_type", "state", "start_date", "end_date", "data_interval_start",
                "data_interval_end", "id"),
    "task_instance": ("dag_id", "run_id", "task_id", "map_index", "state", "start_date", "end_date", "try_number"),
}  # fmt: skip
_DEFAULT_POOL = "default_pool"


def read_database(url: str, key: str, most: int) -> Past:
    """What a database holds.

    Args:
        url: of SQLAlchemy.
        key: Fernet keys, separated by commas; empty: what is encrypted is not taken.
        most: newest runs of each DAG that are told of one by one.

    Raises:
        SettingsError: this is no database of Airflow's, or the key is none.
        Unreachable: it does not answer.
    """
    fernet = _fernet(key) if key else None
    with _connected(url) as connection:
        revision = _revision(connection)
        tables = {name: _table(connection, name, columns) for name, columns in _COLUMNS.items()}
        return Past(
            revision,
            tuple(_connections(connection, tables["connection"], fernet)),
            tuple(_variables(connection, tables["variable"], fernet)),
            {
                row["pool"]: row["slots"]
                for row in _rows(connection, tables["slot_pool"])
                if row["pool"] != _DEFAULT_POOL
            },
            _dags(connection, tables, most),
        )


def is_key(text: str) -> bool:
    """Whether Fernet takes a key."""
    try:
        _fernet(text)
    except SettingsError:
        return False
    return True


def _fernet(keys: str) -> MultiFernet:
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        raise SettingsError("cryptography is not installed.", hint='pip install "tidemill[secrets]"') from None
    GIVEN.add(keys)
    try:
        return MultiFernet([Fernet(one.strip().encode()) for one in keys.split(",")])
    except ValueError:
        raise SettingsError(
            "AIRFLOW__CORE__FERNET_KEY is no key of Fernet.", hint="the one of core.fernet_key in airflow.cfg"
        ) from None


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    for part in (unquote(urlsplit(url).password or ""), urlsplit(url).password or ""):
        GIVEN.add(part)
    shown = hide(url)
    try:
        engine = _engine(url)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        what = (
            f"{error.name} is not installed." if isinstance(error, ImportError) else "This is no address of a database."
        )
        hint = "postgresql://user:password@host/airflow, mysql://..., sqlite:////srv/airflow/airflow.db"
        raise SettingsError(what, where=shown, hint=hint) from None
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        reason = hide(str(error.orig).strip().splitlines()[0])
        raise Unreachable(f"The database of Airflow cannot be read: {reason}", where=shown) from None
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.pool import NullPool

    made = make_url(url)
    if made.get_backend_name() == "sqlite":
        path = Path(made.database or "").absolute()
        if not path.is_file():
            raise SettingsError("There is no such database.", where=str(path))
        uri = f"file:{quote(str(path))}?mode=ro"
        return create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool)
    made = made.set(drivername=_DRIVERS.get(made.drivername, made.drivername))
    options = {"postgresql_readonly": True} if made.get_backend_name() == "postgresql" else {}
    return create_engine(made, poolclass=NullPool, execution_options={"isolation_level": "REPEATABLE READ", **options})


def _revision(connection: Connection) -> str:
    from sqlalchemy import inspect, text

    names = inspect(connection).get_table_names()
    missing = sorted({"alembic_version", *_COLUMNS} - set(names))
    if missing:
        what = f"This is no database of Airflow's: it has no table {', '.join(missing)}."
        raise SettingsError(what, where=hide(str(connection.engine.url)), hint="tidemill import airflow URL")
    return str(connection.execute(text("select version_num from alembic_version")).scalar() or "")


def _table(connection: Connection, name: str, columns: tuple[str, ...]) -> Table:
    from sqlalchemy import MetaData, Table

    wanted = [column.strip("[]") for column in columns]
    table = Table(name, MetaData(), autoload_with=connection, include_columns=wanted, resolve_fks=False)
    missing = [column for column in columns if column[0] != "[" and column not in table.c]
    if missing:
        what = f'The table "{name}" of Airflow has no column {", ".join(missing)}: its version is too old, or too new.'
        raise SettingsError(what, hint="airflow db migrate, of a version from 2.6 on")
    return table


def _rows(connection: Connection, table: Table) -> list[Mapping[str, Any]]:
    from sqlalchemy import select

    return [dict(row) for row in connection.execute(select(table).order_by(*list(table.c)[:1])).mappings()]


def _opened(text: str | None, encrypted: bool, fernet: MultiFernet | None) -> str | None:
    """A value in the clear. Raises ValueError: it cannot be opened, and why."""
    if text is None or not encrypted or not text:
        return text
    if fernet is None:
        raise ValueError("it is encrypted: set AIRFLOW__CORE__FERNET_KEY")
    from cryptography.fernet import InvalidToken

    try:
        return fernet.decrypt(text.encode()).decode()
    except InvalidToken:
        raise ValueError("AIRFLOW__CORE__FERNET_KEY is another one than it was encrypted by") from None


def _connections(connection: Connection, table: Table, fernet: MultiFernet | None) -> Iterator[Kept]:
    for row in _rows(connection, table):
        try:
            password = _opened(row["password"], row["is_encrypted"], fernet)
            extra = _opened(row["extra"], row["is_extra_encrypted"], fernet)
        except ValueError as error:
            yield Kept(row["conn_id"], None, str(error))
            continue
        parts = {name: row.get(name) for name in airflow.FIELDS}
        given = airflow.text_of({**parts, "password": password, "extra": extra})
        yield Kept(row["conn_id"], airflow.text_of(airflow.parts_of(given, row["conn_id"])))


def _variables(connection: Connection, table: Table, fernet: MultiFernet | None) -> Iterator[Kept]:
    for row in _rows(connection, table):
        try:
            text = _opened(row["val"], row["is_encrypted"], fernet)
        except ValueError as error:
            yield Kept(row["key"], None, str(error))
            continue
        yield Kept(row["key"], text or None, "" if text else "it is empty")


def _dags(connection: Connection, tables: Mapping[str, Table], most: int) -> dict[str, PastDag]:
    """DAGs that Airflow still has a file of, with their runs: a few queries for all, one more for each DAG's newest."""
    from sqlalchemy import case, func, select

    runs = tables["dag_run"].c
    ended = (runs.state.in_(ENDED), runs.run_type.in_(TIMELY))
    counted = select(
        runs.dag_id,
        func.count().label("runs"),
        func.sum(case((runs.state.in_(ENDED), 0), else_=1)).label("open"),
        func.max(case((ended[0] & ended[1], runs.data_interval_end))).label("until"),
    ).group_by(runs.dag_id)
    known = {row["dag_id"]: row for row in connection.execute(counted).mappings()}
    found = {}
    for row in _rows(connection, tables["dag"]):
        if row.get("is_stale") or row.get("is_active") is False:
            continue
        name, past = row["dag_id"], known.get(row["dag_id"])
        if past is None:
            found[name] = PastDag(name, bool(row["is_paused"]))
            continue
        recent = tuple(_recent(connection, tables, name, most)) if most else ()
        found[name] = PastDag(
            name, bool(row["is_paused"]), past["runs"], _moment(past["until"]), int(past["open"] or 0), recent
        )
    return found


def _recent(connection: Connection, tables: Mapping[str, Table], name: str, most: int) -> Iterator[PastRun]:
    from sqlalchemy import select

    runs, tasks = tables["dag_run"], tables["task_instance"]
    newest = select(runs).where(runs.c.dag_id == name, runs.c.state.in_(ENDED)).order_by(runs.c.id.desc()).limit(most)
    rows = list(connection.execute(newest).mappings())
    mine = select(tasks).where(tasks.c.dag_id == name, tasks.c.run_id.in_([row["run_id"] for row in rows]))
    by_run: dict[str, list[PastTask]] = {}
    for row in connection.execute(mine.order_by(tasks.c.task_id, tasks.c.map_index)).mappings():
        began, ended = _moment(row["start_date"]), _moment(row["end_date"])
        one = PastTask(row["task_id"], row["map_index"], row["state"], began, ended, row["try_number"])
        by_run.setdefault(row["run_id"], []).append(one)
    for row in reversed(rows):
        began, ended = _moment(row["start_date"]), _moment(row["end_date"])
        start, end = _moment(row["data_interval_start"]), _moment(row["data_interval_end"])
        its = tuple(by_run.get(row["run_id"], ()))
        yield PastRun(row["run_id"], row["run_type"], row["state"], began, ended, start, end, its)


def _moment(value: datetime | str | None) -> datetime | None:
    """A time; SQLite has them without their zone, which is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)
