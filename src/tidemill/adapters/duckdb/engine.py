"""The SQL engine: one statement over scans and Arrow data, in a locked DuckDB of its own.

The order of a query: look at the statement (`statement.py`), open a database (`database.py`), lock it to the data files
of the tables that the statement names, define those tables and the functions, bind, cast what no table can hold
(`types.py`), stream. Errors leave through `errors.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tidemill.adapters.duckdb import database
from tidemill.adapters.duckdb.errors import Names, translated
from tidemill.adapters.duckdb.functions import Failures, register
from tidemill.adapters.duckdb.remote import OpenFile, Remote
from tidemill.adapters.duckdb.statement import Statement, TableUse, Where, default_where, place, read_statement
from tidemill.adapters.duckdb.types import result_columns, with_uuids
from tidemill.model.errors import LimitError, TidemillError, UnknownName, UserError
from tidemill.model.table import Scan
from tidemill.ports.engine import WithFiles

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

#: Rows in a record batch of a result.
BATCH_ROWS = 65_536


class DuckDBEngine:
    """Port `SqlEngine` on DuckDB.

    Args:
        memory_limit: for one query, such as "2GB"; None takes DuckDB's default, 80 % of the machine's.
        threads: for one query; None takes one for each processor.
        temp_directory: where queries that need more memory spill; each uses a folder of its own in it, made when
            needed and removed with the query. None takes the system's.
        temp_limit: what a query may spill, such as "10GB"; None takes DuckDB's default, 90 % of the disk's free space.
        seconds: that a query may take, until its last row is read; None: any time.
        open_file: opens a data file by its address, where files are not local.
    """

    def __init__(
        self,
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        temp_directory: str | None = None,
        temp_limit: str | None = None,
        seconds: float | None = None,
        open_file: OpenFile | None = None,
    ) -> None:
        self._open_file = open_file
        limits: dict[str, str | int | None] = {
            "memory_limit": memory_limit, "threads": threads, "max_temp_directory_size": temp_limit,
        }  # fmt: skip
        self._seconds = seconds
        self._settings = {name: value for name, value in limits.items() if value is not None}
        self._temp_directory = temp_directory or gettempdir()

    @contextmanager
    def query(
        self,
        sql: str,
        inputs: Mapping[str, Scan | WithFiles | Any],
        *,
        namespace: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        views: Mapping[str, str] | None = None,
        where: Where | None = None,
        memory: int | None = None,
    ) -> Iterator[Any]:
        """See `SqlEngine.query`."""
        own_temp = f"{self._temp_directory}/tidemill-duckdb-{uuid4().hex}"
        connection = database.open_database({**self._settings, "temp_directory": own_temp})
        if memory is not None and "memory_limit" not in self._settings:
            database.hold(connection, memory)
        remote = Remote(self._open_file) if self._open_file is not None else None
        spills_to = None if "max_temp_directory_size" in self._settings else self._temp_directory
        run = _Run(
            connection, sql, inputs, namespace, parameters or {}, functions or {}, views or {}, where, remote, spills_to
        )
        clock = threading.Timer(self._seconds, run.stop) if self._seconds is not None else None
        try:
            if clock is not None:
                clock.daemon = True
                clock.start()
            reader, batches = run.start()
            try:
                yield batches
            finally:
                reader.close()
        finally:
            if clock is not None:
                clock.cancel()
                clock.join()  # it must not interrupt a connection that is closed
            connection.close()
            if remote is not None:
                remote.close()


@dataclass(slots=True)
class _Run:
    """One query, from the look at its text to its batches."""

    connection: DuckDBPyConnection
    sql: str
    inputs: Mapping[str, Any]
    namespace: str | None
    parameters: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]
    views: Mapping[str, str]
    given_where: Where | None
    remote: Remote | None = None
    #: Where rows wait that find no room in memory; None: how many may do so is limited, so a disk is not full.
    spills_to: str | None = None
    failures: Failures = field(default_factory=Failures)
    files: tuple[str, ...] = ()
    stopped: bool = False

    def stop(self) -> None:
        """Its time is over; called from another thread."""
        self.stopped = True
        self.connection.interrupt()

    @property
    def where(self) -> Where:
        return self.given_where or default_where

    def start(self) -> tuple[Any, Any]:
        """Bind the statement; returns DuckDB's reader, which must be closed, and the reader for the caller."""
        import pyarrow as pa

        statement = self._looked_at(self.sql, self.where)
        tables = _Tables(self.inputs, self.views, self)
        needed = tables.needed(statement, self.namespace, self.where)
        self.files = tuple(p for name in needed for p in database.paths(self.inputs.get(name)))
        with self._errors(self.sql, self.where):
            database.look_in(self.connection, self.namespace)
            if self.remote is not None:
                for scheme in {path.partition("://")[0] for path in self.files if "://" in path}:
                    self.remote.register(self.connection, scheme)
            database.lock(self.connection, self.files)
            register(self.connection, self.functions, self.failures)
        for name in needed:
            self._define(name)
        values = self._values(statement)
        with self._errors(self.sql, self.where):
            relation = self._bound(values)
            uuids = frozenset(at for at, kind in enumerate(relation.types) if kind.id == "uuid")
            chosen = result_columns(relation.columns, relation.types)
            reader = (relation.project(", ".join(chosen)) if chosen else relation).to_arrow_reader(BATCH_ROWS)
        schema, batches = with_uuids(reader.schema, reader, uuids) if uuids else (reader.schema, reader)
        return reader, pa.RecordBatchReader.from_batches(schema, self._batches(batches))

    def looked_at(self, name: str) -> Statement:
        """A view's statement."""
        return self._looked_at(self.views[name], _in_view(name))

    def _looked_at(self, sql: str, where: Where) -> Statement:
        with self._errors(sql, where):
            return read_statement(self.connection, sql, where)

    def _define(self, name: str) -> None:
        if name in self.views:
            with self._errors(self.views[name], _in_view(name), len(database.view_head(name).encode())):
                database.define(self.connection, name, self.views[name])
        else:
            with self._errors(self.sql, self.where):
                database.define_input(self.connection, name, self.inputs[name])

    def _values(self, statement: Statement) -> dict[str, Any]:
        for name in sorted(statement.parameters):
            if name not in self.parameters:
                raise UnknownName.of("parameter", name, self.parameters, where=self.where(1, 1))
        return {name: self.parameters[name] for name in statement.parameters}

    def _bound(self, values: dict[str, Any]) -> DuckDBPyRelation:
        """The statement, bound.

        The relational interface streams (a result of 20 million rows took 65 MB where the other took 2.4 GB), but its
        errors have no position: the same statement is then bound by the other one, which fails with it.
        """
        import duckdb

        try:
            return self.connection.sql(self.sql, params=values or None)
        except (duckdb.BinderException, duckdb.CatalogException):
            self.connection.execute(self.sql, values or None)
            raise

    def _batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        with self._errors(self.sql, self.where):
            yield from batches

    @contextmanager
    def _errors(self, sql: str, where: Where, offset: int = 0) -> Iterator[None]:
        """Turn DuckDB's errors into ours. Arrow wraps those of a running query in OSError."""
        import duckdb

        try:
            yield
        except TidemillError:
            raise
        except (duckdb.Error, OSError, RecursionError) as error:
            self.failures.check()
            if self.stopped:
                raise LimitError("The query took too long and was stopped.") from None
            if self.remote is not None and isinstance(self.remote.error, TidemillError):
                raise self.remote.error from None
            names = Names(lambda: database.columns(self.connection), self.functions, self.files, self.spills_to)
            made = translated(error, sql, where, names, offset=offset)
            if made is None:
                raise
            raise made from error


@dataclass(slots=True)
class _Tables:
    """The names that statements may use."""

    inputs: Mapping[str, Any]
    views: Mapping[str, str]
    run: _Run
    _names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._names = {name.lower(): name for name in (*self.inputs, *self.views)}

    def needed(self, statement: Statement, namespace: str | None, where: Where) -> list[str]:
        """What `statement` reads, each after what it needs itself."""
        order: list[str] = []
        self._add(statement, namespace, where, order, ())
        return order

    def _add(
        self, statement: Statement, namespace: str | None, where: Where, order: list[str], within: tuple[str, ...]
    ) -> None:
        for use in statement.tables:
            name = self._find(use, namespace, statement, where)
            if name is None or name in order:
                continue
            if name in within:
                raise UserError(f'The view "{name}" reads itself.', where=" > ".join((*within, name)))
            if name in self.views:
                inner = name.rpartition(".")[0] or None
                self._add(self.run.looked_at(name), inner, _in_view(name), order, (*within, name))
            order.append(name)

    def _find(self, use: TableUse, namespace: str | None, statement: Statement, where: Where) -> str | None:
        """The input or view that `use` means; None for a common table expression."""
        written = ".".join(use.path)
        tries = [written.lower()]
        if len(use.path) == 1:
            if written.lower() in statement.ctes:
                return self._names.get(f"{namespace}.{written}".lower(), self._names.get(written.lower()))
            if namespace:
                tries.insert(0, f"{namespace}.{written}".lower())
        for name in tries:
            if name in self._names:
                return self._names[name]
        known = list(self._names.values())
        if namespace and len(use.path) == 1:
            known += [name.removeprefix(f"{namespace}.") for name in known if name.startswith(f"{namespace}.")]
        raise UnknownName.of("table", written, known, where=place(statement.sql, use.position, where))


def _in_view(name: str) -> Where:
    return lambda line, column: f'view "{name}", line {line}, column {column}'
