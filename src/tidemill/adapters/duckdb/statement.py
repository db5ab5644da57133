"""What a statement is and reads, by DuckDB's own parser: the check cannot disagree with what runs afterwards.

One SELECT and nothing else; tables only, no functions that open files or reach into the engine. The locked database
(`database.py`) would refuse these too; here the refusal comes first and names the place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tidemill.model.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Names a place in a statement, from line and column.
Where = Callable[[int, int], str]

#: Functions in FROM that only compute. All others open files, run text as SQL, or show the engine's insides.
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "json_each", "json_tree"})
_SELECTS = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_READS_FILES = ("read_", "parquet_", "sniff_", "glob")


@dataclass(frozen=True, slots=True)
class TableUse:
    """A table's name in a statement, part by part, and its place in bytes."""

    path: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A SELECT that was looked at.

    `tables` may include names of common table expressions used out of their scope, `ctes` has all of these names
    in lower case.
    """

    sql: str
    tables: tuple[TableUse, ...]
    ctes: frozenset[str]
    parameters: frozenset[str]


def default_where(line: int, column: int) -> str:
    """A place in a statement that has no file."""
    return f"line {line}, column {column}"


def place(sql: str, position: int | None, where: Where) -> str | None:
    """The place of a position in bytes, which is what DuckDB counts; None where it is not known."""
    before = sql.encode()[:position] if position is not None else b""
    if position is None or position > len(sql.encode()):
        return None
    text = before.decode(errors="replace")
    return where(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def read_statement(connection: DuckDBPyConnection, sql: str, where: Where) -> Statement:
    """Look at `sql` without running it.

    Raises:
        UserError: it is not one SELECT, or reads something else than tables.
    """
    found = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    tree: dict[str, Any] = json.loads(found[0]) if found else {}
    if tree["error"]:
        raise _unreadable(sql, tree, where)
    if len(tree["statements"]) != 1:
        raise UserError(f"One SQL statement is wanted, and here are {len(tree['statements'])}.", where=where(1, 1))
    tables: list[TableUse] = []
    ctes: set[str] = set()
    parameters: set[str] = set()
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            tables.append(TableUse(tuple(node["qualified_name"]["path"]), node["query_location"]))
        elif kind == "TABLE_FUNCTION":
            _check_function(sql, node, where)
        elif kind == "VALUE_PARAMETER":
            parameters.add(_parameter(sql, node, where))
        elif isinstance(kind, str) and kind.endswith("_NODE") and kind not in _SELECTS:
            verb = kind.split("_")[0]
            raise UserError(f"A statement may only read, and this one has {verb}.", where=where(1, 1), hint=_HINT)
        elif node.get("show_type") == "SHOW_SPECIAL":
            raise UserError("SHOW is not for this place.", where=where(1, 1), hint=_HINT)
        if "cte_map" in node:
            ctes.update(entry["key"].lower() for entry in node["cte_map"]["map"])
    return Statement(sql, tuple(tables), frozenset(ctes), frozenset(parameters))


@contextmanager
def parsing() -> Iterator[Callable[[str, Where], Statement]]:
    """`read_statement` where nothing is to be run: a parser without tables."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        yield partial(read_statement, connection)


_HINT = "SELECT ..., FROM ..., WITH ... SELECT ... or VALUES ..."


def _unreadable(sql: str, tree: dict[str, Any], where: Where) -> UserError:
    message = tree["error_message"]
    if "position" in tree:
        return UserError(f"SQL {message}.", where=place(sql, int(tree["position"]), where))
    if tree.get("error_type") == "not implemented" and "Only SELECT" in message:
        hint = _HINT
        if sql.lstrip().upper().startswith("PIVOT"):
            hint = "name the values that become columns: PIVOT t ON x IN ('a', 'b') USING ..."
        return UserError("A statement that only reads is wanted.", where=where(1, 1), hint=hint)
    return UserError(f"This SQL cannot be read: {message[:1].lower()}{message[1:]}.", where=where(1, 1))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the parse tree, without recursion: users nest deeply."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(reversed(node.values()))
        elif isinstance(node, list):
            waiting.extend(reversed(node))


def _parameter(sql: str, node: dict[str, Any], where: Where) -> str:
    name = str(node["identifier"])
    if name.isdigit():
        raise UserError("A parameter needs a name.", where=place(sql, node["query_location"], where), hint="$name")
    return name


def _check_function(sql: str, node: dict[str, Any], where: Where) -> None:
    name = node["function"]["function_name"].lower()
    if name in _TABLE_FUNCTIONS:
        return
    if name.startswith(_READS_FILES):
        hint = "a statement reads tables only; files come in through a source"
    else:
        hint = "in FROM: tables, and " + ", ".join(sorted(_TABLE_FUNCTIONS))
    raise UserError(f'"{name}" may not be used in FROM.', where=place(sql, node["query_location"], where), hint=hint)
