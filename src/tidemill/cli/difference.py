"""How `branch diff` shows what a branch changed: a headline for each table, then columns, then rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.cli.grid import Column, Styled
from tidemill.cli.output import Output
from tidemill.cli.text import cell, count, cut
from tidemill.model.branch import RefKind
from tidemill.ports.asked import Facts

#: A value takes no more columns than this in a row of the diff; JSON has all of it.
_LONGEST = 32
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def print_diff(out: Output, found: Facts, limit: int) -> None:
    """Print what `AskedLake.diff` tells."""
    name, tables = found["branch"], found["tables"]
    out.note(f"{found['kind']} {name} against {found['against']}")
    if not tables and not found["views"]:
        out.line(f"no difference: {name} changed no table")
        return
    columns = [Column("table"), Column("change"), Column("added", right=True), Column("removed", right=True),
               Column("changed", right=True), Column("rows matched by", yields=1)]  # fmt: skip
    rows = [
        [t["table"], t["change"], *(_signed(t[kind], kind) for kind in _SIGNS), ", ".join(t["key"]) or "whole rows"]
        for t in tables
    ]
    rows += [[v["view"], "view", "", "", "", ""] for v in found["views"]]
    out.grid(columns, rows)
    for table in tables:
        _print_table(out, table)
    for view in found["views"]:
        out.line()
        out.line(view["view"])
        for sign, style, sql in (("-", "removed", view["before"]), ("+", "added", view["after"])):
            for line in (sql or "").strip().splitlines():
                out.line(out.styled(f"  {sign} {line}", style))
    moved = [t["table"] for t in tables if t["moved_on_main"]]
    if moved:
        out.note(f"main has changed since the fork: {', '.join(moved)}")
    out.line()
    out.next(_next(found, limit))


def _next(found: Facts, limit: int) -> str:
    name, tables = found["branch"], found["tables"]
    cut_short = next((t for t in tables if max(t[kind] for kind in _SIGNS) > limit), None)
    if cut_short is not None and len(tables) > 1:
        return f"tidemill branch diff {name} {cut_short['table']} --limit 50"
    if found["kind"] == RefKind.BRANCH:
        return f"tidemill branch merge {name}"
    if tables:
        return f"tidemill data show {tables[0]['table']} --branch {name}"
    return f"tidemill data ls --branch {name}"


def _signed(number: int, kind: str) -> str:
    return Styled(f"{_SIGNS[kind]}{count(number)}", kind) if number else "0"


def _print_table(out: Output, table: Facts) -> None:
    out.line()
    out.line(out.styled(table["table"], "heading"))
    for change in table["columns"]:
        sign, style, text = _column(change["before"], change["after"])
        out.line(out.styled(f"  {sign} column {text}", style))
    for row in table["rows"]:
        text = _row(row)
        text = cut(text, out.width - 2) if out.width is not None else text
        out.line(out.styled(f"  {text}", row["kind"]))
    for kind in _SIGNS:
        shown = sum(1 for row in table["rows"] if row["kind"] == kind)
        more = table[kind] - shown
        if more > 0:
            out.line(out.styled(f"  {_SIGNS[kind]} {count(more)} more {kind}", "dim"))


def _column(before: str | None, after: str | None) -> tuple[str, str, str]:
    if before is None:
        return "+", "added", str(after)
    if after is None:
        return "-", "removed", before
    return "~", "changed", f"{before} -> {after}"


def _row(row: Facts) -> str:
    """A row as `sign key  column=value ...`; a changed one as `~ key  column: before -> after`."""
    key = _pairs(row["key"])
    if row["kind"] == "changed":
        after = row["after"]
        values = "  ".join(f"{n}: {_value(v)} -> {_value(after[n])}" for n, v in row["before"].items())
    else:
        values = _pairs(row["after"] if row["after"] is not None else row["before"] or {})
    return f"{_SIGNS[row['kind']]} {'  '.join(part for part in (key, values) if part)}"


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    return cut(cell(value), _LONGEST)
