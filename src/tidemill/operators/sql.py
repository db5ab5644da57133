"""SQL in databases outside as tasks, and waiting for what a query gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidemill.authoring.signals import FailTask
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.operators.sensors import BaseSensor
from tidemill.plan.statements import bind, split
from tidemill.ports.sqlclient import Rows, SqlClient, Statement

#: The xcom with the names of the columns of the rows that the task returned.
COLUMNS = "columns"
#: Rows that a task returns at most: more belong into a table.
MOST_ROWS = 1_000


class _Sql:
    """What operator and sensor do alike."""

    conn_id: str
    place: str
    sql: Any
    parameters: Any
    _client: SqlClient | None = None

    def _run(self, context: TaskContext, most: int, *, autocommit: bool = False) -> Rows | None:
        self._client = client = context.services.need_outside().sql(self.conn_id)
        try:
            texts = [self.sql] if isinstance(self.sql, str) else list(self.sql)
            found = [one for text in texts for one in split(text, client.dialect)]
            if not found:
                raise DefinitionError("There is no statement.", where=self.place, hint='sql="SELECT ..."')
            statements = [Statement(*one) for one in bind(found, self.parameters, client.dialect)]
            return client.run(statements, most=most, autocommit=autocommit)
        except TidemillError as error:
            error.where = error.where or self.place
            raise
        finally:
            self._client = None

    def on_kill(self) -> None:
        """Stop what is being executed."""
        if self._client is not None:
            self._client.interrupt()


class SqlOperator(_Sql, BaseOperator):
    """Executes SQL in one transaction. The rows of its last query are what the task returns, as tuples.

    The names of their columns are under the key `columns`.

    Args:
        sql: statements with semicolons between them, a list of such texts, or a file that ends in `.sql`; a template.
        conn_id: a connection: `postgresql://user:password@host/database`, `sqlite:///data/shop.db`,
            `duckdb:///data/shop.duckdb`; files are relative to the project.
        parameters: values for `:name`, or a list of them for the `?` of one statement; they are bound, never written
            into the text.
        autocommit: each statement by itself, for those that cannot be in a transaction.
        most_rows: of the rows so many are returned, and the log tells that there were more.
        handler: makes of the rows, a list of tuples, what the task returns.
        options: those of every task.
    """

    kind = "sql"
    template_fields: Sequence[str] = ("sql", "parameters", "conn_id")
    template_ext: Sequence[str] = (".sql",)

    def __init__(
        self,
        *,
        sql: str | Sequence[str],
        conn_id: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        autocommit: bool = False,
        most_rows: int = MOST_ROWS,
        handler: Callable[[list[tuple[Any, ...]]], Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if most_rows < 0:
            raise DefinitionError(f'"{self.task_id}" returns less than nothing.', where=self.place)
        self.sql = sql if isinstance(sql, str) else list(sql)
        self.conn_id = conn_id
        self.parameters = parameters
        self.autocommit = autocommit
        self.most_rows = most_rows
        self.handler = handler

    def execute(self, context: TaskContext) -> Any:
        """Execute it."""
        found = self._run(context, self.most_rows, autocommit=self.autocommit)
        if found is None:
            return None
        if found.more:
            self.log.warning("there are more rows than the %d that are returned (most_rows=)", self.most_rows)
        context["ti"].xcom_push(COLUMNS, list(found.columns))
        rows = list(found.rows)
        return rows if self.handler is None else self.handler(rows)


class SqlSensor(_Sql, BaseSensor):
    """Waits until a query gives a row whose first value is true: not 0, "", "0", or null.

    Args:
        sql, conn_id, parameters: see `SqlOperator`.
        success: a function of that first value which tells whether the wait is over.
        fail_on_empty: no row at all is a failure.
        options: those of `BaseSensor`.
    """

    template_fields: Sequence[str] = ("sql", "parameters", "conn_id")
    template_ext: Sequence[str] = (".sql",)

    def __init__(
        self,
        *,
        sql: str,
        conn_id: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        success: Callable[[Any], Any] | None = None,
        fail_on_empty: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.sql = sql
        self.conn_id = conn_id
        self.parameters = parameters
        self.success = success
        self.fail_on_empty = fail_on_empty

    def poke(self, context: TaskContext) -> Any:
        """Ask once."""
        found = self._run(context, 1)
        if found is None or not found.rows:
            if self.fail_on_empty:
                raise FailTask("the query gave no row")
            return False
        value = found.rows[0][0]
        return bool(self.success(value)) if self.success is not None else value not in (None, 0, "", "0", False)
