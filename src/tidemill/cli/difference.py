"""How `branch diff` shows what a branch changed: a headline for each table, then columns, then rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.cli.grid import Column, Styled
from tidemill.cli.output import Output
from tidemill.cli.text import cell, count, cut
from tidemill.flow.diff import BranchDiff, ColumnChange, RowChange, TableDiff
from tidemill.model.branch import RefKind

#: A value takes no more columns than this in a row of the diff; JSON has all of it.
_LONGEST = 32
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def print_diff(out: Output, found: BranchDiff, limit: int) -> None:
    """Print a diff."""
    name = found.ref.name
    out.note(f"{found.ref.kind} {name} against {found.against}")
    if not found.tables and not found.views:
        out.line(f"no difference: {name} changed no table")
        return
    columns = [Column("table"), Column("change"), Column("added", right=True), Column("removed", right=True),
               Column("changed", right=True), Column("rows matched by", yields=1)]  # fmt: skip
    rows = [
        [str(t.name), t.change, _signed(t.added, "added"), _signed(t.removed, "removed"), _signed(t.changed, "changed"),
         ", ".join(t.key) or "whole rows"]
        for t in found.tables
    ]  # fmt: skip
    rows += [[str(v.name), "view", "", "", "", ""] for v in found.views]
    out.grid(columns, rows)
    for table in found.tables:
        _print_table(out, table)
    for view in found.views:
        out.line()
        out.line(str(view.name))
        for sign, style, sql in (("-", "removed", view.before), ("+", "added", view.after)):
            for line in (sql or "").strip().splitlines():
                out.line(out.styled(f"  {sign} {line}", style))
    moved = [str(t.name) for t in found.tables if t.moved]
    if moved:
        out.note(f"main has changed since the fork: {', '.join(moved)}")
    out.line()
    out.next(_next(found, limit))


def _next(found: BranchDiff, limit: int) -> str:
    name = found.ref.name
    cut_short = next((t for t in found.tables if max(t.added, t.removed, t.changed) > limit), None)
    if cut_short is not None and len(found.tables) > 1:
        return f"tidemill branch diff {name} {cut_short.name} --limit 50"
    if found.ref.kind is RefKind.BRANCH:
        return f"tidemill branch merge {name}"
    if found.tables:
        return f"tidemill data show {found.tables[0].name} --branch {name}"
    return f"tidemill data ls --branch {name}"


def _signed(number: int, kind: str) -> str:
    return Styled(f"{_SIGNS[kind]}{count(number)}", kind) if number else "0"


def _print_table(out: Output, table: TableDiff) -> None:
    out.line()
    out.line(out.styled(str(table.name), "heading"))
    for change in table.columns:
        sign, style, text = _column(change)
        out.line(out.styled(f"  {sign} column {text}", style))
    for row in table.rows:
        for line in _row(row):
            text = cut(line, out.width - 2) if out.width is not None else line
            out.line(out.styled(f"  {text}", row.kind))
    for kind in _SIGNS:
        shown = sum(1 for row in table.rows if row.kind == kind)
        more = getattr(table, kind) - shown
        if more > 0:
            out.line(out.styled(f"  {_SIGNS[kind]} {count(more)} more {kind}", "dim"))


def _column(change: ColumnChange) -> tuple[str, str, str]:
    if change.before is None:
        return "+", "added", str(change.after)
    if change.after is None:
        return "-", "removed", change.before
    return "~", "changed", f"{change.before} -> {change.after}"


def _row(row: RowChange) -> list[str]:
    """A row as `sign key  column=value ...`; a changed one as `~ key  column: before -> after`."""
    sign = _SIGNS[row.kind]
    key = _pairs(row.key)
    if row.kind == "changed":
        assert row.before is not None
        assert row.after is not None
        after = row.after
        values = "  ".join(f"{n}: {_value(v)} -> {_value(after[n])}" for n, v in row.before.items())
    else:
        values = _pairs(row.after if row.after is not None else row.before or {})
    return [f"{sign} {'  '.join(part for part in (key, values) if part)}"]


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    return cut(cell(value), _LONGEST)


def diff_object(found: BranchDiff) -> dict[str, Any]:
    """The diff for programs: every value whole."""
    return {
        "branch": found.ref.name,
        "against": found.against,
        "tables": [
            {
                "table": str(t.name),
                "change": t.change,
                "key": list(t.key),
                "columns": [{"before": c.before, "after": c.after} for c in t.columns],
                "added": t.added,
                "removed": t.removed,
                "changed": t.changed,
                "moved_on_main": t.moved,
                "rows": [
                    {"kind": r.kind, "key": dict(r.key), "before": r.before, "after": r.after} for r in t.rows
                ],
            }
            for t in found.tables
        ],
        "views": [{"view": str(v.name), "before": v.before, "after": v.after} for v in found.views],
    }  # fmt: skip
