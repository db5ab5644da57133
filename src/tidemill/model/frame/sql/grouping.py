"""GROUP BY as groups or windows: keys and arguments become columns, then the verb, then what SELECT makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from sqlglot import exp

from tidemill.model import agg
from tidemill.model.frame.sql.aggregates import Aggregates, filtered, is_aggregate
from tidemill.model.frame.sql.functions import WINDOWS
from tidemill.model.frame.sql.own import Calls
from tidemill.model.frame.sql.scalar import Scalars
from tidemill.model.frame.sql.text import Text
from tidemill.model.frame.window import WINDOW_END, WINDOW_START, WindowOf

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame

_ELSE = (exp.Rollup, exp.Cube, exp.GroupingSets)


class Grouping:
    """The groups of one SELECT.

    Args:
        text, tree: of the query.
        calls: users' functions that wait to be called.
        scalars: makes expressions of the rows before.
    """

    def __init__(self, text: Text, tree: exp.Select, calls: Calls, scalars: Scalars) -> None:
        self._text = text
        self._tree = tree
        self._calls = calls
        self._scalars = scalars
        self._items: dict[str, exp.Expr] = {
            one.alias: one.this for one in tree.expressions if isinstance(one, exp.Alias)
        }
        #: Columns to be computed before, and the keys as they are written with their columns.
        self._before: dict[str, pl.Expr] = {}
        self._keys: dict[str, str] = {}
        self._window: exp.Anonymous | None = None
        #: Makes expressions of what comes out.
        self.after: Scalars | None = None
        self._aggregates = Aggregates(text, calls.name, self._column, scalars.make)

    def on(self, frame: Frame) -> Frame:
        """The frame, grouped."""
        for key in self._written_keys():
            self._add_key(key)
        parts: list[exp.Expr] = [*self._tree.expressions]
        if self._tree.args.get("having"):
            parts.append(self._tree.args["having"])
        for part in parts:
            for node in part.find_all(exp.Anonymous, bfs=False):
                if is_aggregate(node) and (found := filtered(self._with_filter(node))) is not None:
                    self._refuse_nested(node)
                    self._aggregates.add(*found)
        time = None if self._window is None else self._column(self._window.expressions[0])
        frame = self._calls.on(frame)
        if self._before:
            frame = frame.with_columns(**self._before)
        wanted: dict[str, Any] = {**self._aggregates.wanted} or {self._calls.name(): agg.count()}
        keys = list(self._keys.values())
        if self._window is None:
            if not keys:
                self._text.refuse(
                    parts[0],
                    "aggregates over all rows, without GROUP BY",
                    "group by key, or tumble(ts, interval '1 day')",
                )
            return frame.group_by(*keys).agg(**wanted)
        return self._cut(frame, self._window, time or "", keys).agg(**wanted).final()

    def known(self, node: exp.Expr) -> pl.Expr | None:
        """What a part of SELECT or HAVING is after grouping. Raises DefinitionError for a column that is no key."""
        found = filtered(node)
        if found is not None:
            return self._aggregates.add(*found)
        key = self._keys.get(self._text.same(node))
        if key is not None:
            return pl.col(key)
        if isinstance(node, exp.Column):
            if self._window is not None and node.name in (WINDOW_START, WINDOW_END):
                return pl.col(node.name)
            if self._is_alias(node.name) and self.after is not None:
                return self.after.make(self._items[node.name])
            if not isinstance(node.this, exp.Star):
                shown = self._text.written(node)
                self._text.refuse(node, f"{shown} is no key, and in no aggregate", f"group by {shown}, or max({shown})")
        return None

    def _written_keys(self) -> list[exp.Expr]:
        group = self._tree.args.get("group")
        if group is None:
            return []
        several = group.find(*_ELSE)
        if several is not None or group.args.get("totals"):
            self._text.refuse(several or group, "several groupings at once", "group by a, b")
        if group.args.get("all"):
            plain = [one.this if isinstance(one, exp.Alias) else one for one in self._tree.expressions]
            return [one for one in plain if not any(is_aggregate(node) for node in one.walk())]
        return list(group.expressions)

    def _add_key(self, key: exp.Expr) -> None:
        if isinstance(key, exp.Anonymous) and str(key.this).lower() in WINDOWS:
            if self._window is not None:
                self._text.refuse(key, "a second window", "one query after the other: f.sql(...).sql(...)")
            self._window = key
            return
        if isinstance(key, exp.Literal):
            number = int(key.this) if not key.is_string and str(key.this).isdigit() else 0
            if not 1 <= number <= len(self._tree.expressions):
                self._text.refuse(key, f"there is no column {key.this} in SELECT", "group by a column")
            key = self._tree.expressions[number - 1]
            key = key.this if isinstance(key, exp.Alias) else key
        elif isinstance(key, exp.Column) and len(key.parts) == 1 and self._is_alias(key.name):
            key = self._items[key.name]
        if any(is_aggregate(node) for node in key.walk()):
            self._text.refuse(key, f"{self._text.written(key)} in GROUP BY", "group by a column")
        if isinstance(key, exp.Column) and key.name in (WINDOW_START, WINDOW_END):
            return  # the window's own, in GROUP BY ALL
        self._keys[self._text.same(key)] = self._column(key)

    def _is_alias(self, name: str) -> bool:
        """Whether a name is that of a computed column of SELECT: in `upper(name) as name` it is the column's."""
        item = self._items.get(name)
        return item is not None and not any(one.name == name for one in item.find_all(exp.Column))

    def _column(self, part: exp.Expr | pl.Expr) -> str:
        """The name of the column that holds a part; it is computed before, unless it is one."""
        made = part if isinstance(part, pl.Expr) else self._scalars.make(part)
        if made.meta.is_column():
            return str(made.meta.output_name())
        known = next((name for name, one in self._before.items() if one.meta.eq(made)), None)
        name = known or self._calls.name()
        self._before[name] = made
        return name

    def _with_filter(self, node: exp.Anonymous) -> exp.Expr:
        return node.parent if isinstance(node.parent, exp.Filter) and node.parent.this is node else node

    def _refuse_nested(self, node: exp.Anonymous) -> None:
        inside = next((one for part in node.expressions for one in part.walk() if is_aggregate(one)), None)
        if inside is not None:
            self._text.refuse(
                inside, "an aggregate within an aggregate", "one query after the other: f.sql(...).sql(...)"
            )

    def _cut(self, frame: Frame, window: exp.Anonymous, time: str, keys: list[str]) -> WindowOf:
        name = str(window.this).lower()
        lengths = [self._scalars.duration(one) for one in window.expressions[1:]]
        if len(lengths) != (2 if name == "hop" else 1):
            self._text.refuse(window, f"{name} is not written so", WINDOWS[name])
        if name == "tumble":
            return frame.tumbling_window(lengths[0], on=time, by=keys)
        if name == "hop":
            return frame.hopping_window(lengths[0], lengths[1], on=time, by=keys)
        return frame.session_window(lengths[0], on=time, by=keys)
