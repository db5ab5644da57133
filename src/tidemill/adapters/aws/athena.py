"""Port `queries` on Amazon Athena: a query is begun, waited for, and its results are taken page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from tidemill.adapters.aws.client import Login, translated
from tidemill.model.errors import DataError, Refused, SettingsError, Unreachable
from tidemill.model.types import Type
from tidemill.plan.asked_sql import presto_type, presto_value
from tidemill.ports.clock import Clock
from tidemill.ports.queries import Answer

#: Seconds between two looks whether a query has ended: few at first, as most are short.
_FIRST_LOOK, _LONGEST_LOOK = 0.1, 2.0
#: Rows of a page; Athena gives no more.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Workgroup:
    """How queries are run.

    Args:
        name: of the workgroup; None: the account's first one, `primary`.
        output: where results are written (`s3://bucket/prefix`); None: as the workgroup says.
        database: of tables that are named without one.
        catalog: of databases; None: that of Glue.
    """

    name: str | None = None
    output: str | None = None
    database: str | None = None
    catalog: str | None = None


class AthenaQueries:
    """Athena in one region.

    Args:
        login: who asks, and where.
        workgroup: how.
        clock: waits for it.
    """

    dialect = "athena"

    def __init__(self, login: Login, workgroup: Workgroup, clock: Clock) -> None:
        self._login = login
        self._clock = clock
        self._workgroup = workgroup

    @cached_property
    def _athena(self) -> Any:
        return self._login.client("athena")

    @contextmanager
    def ask(self, sql: str, most: int | None) -> Iterator[Answer]:
        """Run one query."""
        query = self._begun(sql)
        try:
            ended = self._ended(query)
        except BaseException:
            # Nobody waits any more: what it would still scan would be paid for.
            with suppress(Exception):
                self._athena.stop_query_execution(QueryExecutionId=query)
            raise
        _check(ended["Status"])
        yield self._answer(query, most, headed=ended.get("StatementType") == "DML")

    def _begun(self, sql: str) -> str:
        group = self._workgroup
        context = {"Database": group.database, "Catalog": group.catalog}
        given: dict[str, Any] = {"QueryString": sql}
        given["QueryExecutionContext"] = {name: value for name, value in context.items() if value}
        if group.name:
            given["WorkGroup"] = group.name
        if group.output:
            given["ResultConfiguration"] = {"OutputLocation": group.output}
        try:
            with translated():
                return str(self._athena.start_query_execution(**given)["QueryExecutionId"])
        except Refused as error:
            if "output location" in error.what.lower():
                raise SettingsError(
                    "Athena does not know where to write results.", hint="?output=s3://bucket/prefix in the connection"
                ) from None
            raise

    def _ended(self, query: str) -> Mapping[str, Any]:
        wait = _FIRST_LOOK
        while True:
            with translated():
                found: dict[str, Any] = self._athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]
            if found["Status"]["State"] not in ("QUEUED", "RUNNING"):
                return found
            self._clock.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_LOOK)

    def _answer(self, query: str, most: int | None, *, headed: bool) -> Answer:
        # The names of the columns are a query's first row.
        size = _PAGE if most is None else min(_PAGE, most + headed)
        pages = self._pages(query, size)
        first = next(pages)
        columns = tuple(
            (str(one["Name"]), presto_type(one["Type"], one.get("Precision"), one.get("Scale")))
            for one in first.get("ResultSetMetadata", {}).get("ColumnInfo", ())
        )

        def rows() -> Iterator[Sequence[Any]]:
            skip = int(headed)
            for page in chain([first], pages):
                for row in page["Rows"][skip:]:
                    yield _row(row, columns)
                skip = 0

        return Answer(columns, rows())

    def _pages(self, query: str, size: int) -> Iterator[Mapping[str, Any]]:
        given: dict[str, Any] = {"QueryExecutionId": query, "MaxResults": size}
        while True:
            with translated():
                found = self._athena.get_query_results(**given)
            yield found["ResultSet"]
            if not found.get("NextToken"):
                return
            given["NextToken"] = found["NextToken"]


def _row(row: Mapping[str, Any], columns: Sequence[tuple[str, Type]]) -> list[Any]:
    data = row.get("Data", [])
    if len(data) == 1 < len(columns):  # statements such as DESCRIBE write a line
        data = [{"VarCharValue": part.strip()} for part in data[0].get("VarCharValue", "").split("\t")]
        data += [{}] * (len(columns) - len(data))
    values = []
    for one, (name, kind) in zip(data, columns, strict=False):
        text = one.get("VarCharValue")
        try:
            values.append(presto_value(text, kind))
        except (ValueError, ArithmeticError):
            raise DataError(f'"{text}" in column "{name}" is no {kind}.') from None
    return values


def _check(status: Mapping[str, Any]) -> None:
    """Raises DataError, Refused, Unreachable: the query did not end well."""
    if status["State"] == "SUCCEEDED":
        return
    why = str(status.get("StateChangeReason") or "it does not say why").rstrip(".")
    if status["State"] == "CANCELLED":
        raise Refused(f"Somebody has stopped the query: {why}.")
    if status.get("AthenaError", {}).get("Retryable"):
        raise Unreachable(f"Athena has failed: {why}.")
    raise DataError(f"Athena refuses it: {why}.")
