"""A query as steps of a frame: WHERE filters, SELECT selects, GROUP BY groups or cuts into windows, HAVING filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlglot import exp

from tidemill.model.frame.sql.aggregates import is_aggregate
from tidemill.model.frame.sql.grouping import Grouping
from tidemill.model.frame.sql.own import Calls, OwnFunction
from tidemill.model.frame.sql.scalar import Scalars
from tidemill.model.frame.sql.text import Text

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame

#: What a SELECT may have; `operation_modifiers` and the like are empty lists that the parser leaves there.
_PARTS = ("with_", "distinct", "expressions", "from_", "where", "group", "having")
_ONE_FRAME = "a query is over one frame"
_JOIN = 'f.join_lookup(other, on="key"), before f.sql(...)'
_OVER = "OVER looks at other rows"
_WINDOW = "a window: group by tumble(time, interval '1 hour')"
#: What is refused: the part of the tree, the word in the text, what to say, what to try.
_REFUSED = (
    ("order", "ORDER", "ORDER BY: rows have no order of their own", "@pipeline.table(sort=[...]) sorts a table"),
    ("limit", "LIMIT", "LIMIT: tables have no first rows, and a stream no end", "where ... keeps some"),
    ("offset", "OFFSET", "OFFSET: tables have no first rows, and a stream no end", "where ... keeps some"),
    ("joins", "JOIN", _ONE_FRAME, _JOIN),
    ("laterals", "LATERAL", _ONE_FRAME, 'f.explode("list"), before f.sql(...)'),
    ("windows", "WINDOW", _OVER, _WINDOW),
    ("qualify", "QUALIFY", _OVER, 'f.unique("key", within="1h", on="time") keeps one row of a key'),
    ("sample", "USING", "a sample changes from run to run", "where ... keeps some"),
)


def query(frame: Frame, text: str, functions: Mapping[str, Callable[..., Any]] | None) -> Frame:
    """The frame with the steps of a query over it.

    Raises:
        DefinitionError: the query is none, or has what frames do not.
    """
    read = Text(text)
    own = {name: OwnFunction(read, name, function) for name, function in (functions or {}).items()}
    return _Query(read, own).frame(read.tree, {"self": frame})


class _Query:
    def __init__(self, text: Text, own: Mapping[str, OwnFunction]) -> None:
        self._text = text
        self._own = own

    def frame(self, tree: exp.Expr, named: Mapping[str, Frame]) -> Frame:
        """The frame of a query; `named` are those that it can read."""
        if isinstance(tree, exp.Subquery):
            return self.frame(tree.this, named)
        if isinstance(tree, exp.SetOperation):
            word = type(tree).__name__.upper()
            self._text.refuse(word, f"{word} is not for frames", "f.sql(...).concat(f.sql(...))")
        if not isinstance(tree, exp.Select):
            self._text.refuse(tree, "a query begins with SELECT", "select ... from self")
        self._check(tree)
        known = dict(named)
        for one in tree.args["with_"].expressions if tree.args.get("with_") else ():
            known[one.alias] = self.frame(one.this, known)
        frame, tables = self._from(tree, known)
        return _Select(self._text, self._own, tree, tables).on(frame)

    def _check(self, tree: exp.Select) -> None:
        for part, word, what, hint in _REFUSED:
            if tree.args.get(part):
                self._text.refuse(word, what, hint)
        for part, value in tree.args.items():
            if value and part not in _PARTS:
                self._text.refuse(tree, f"{part.rstrip('_').upper()} is not for frames", "select ... from self")
        if (over := tree.find(exp.Window)) is not None:
            self._text.refuse(over, _OVER, _WINDOW)
        with_ = tree.args.get("with_")
        if with_ is not None and with_.args.get("recursive"):
            self._text.refuse("RECURSIVE", "WITH RECURSIVE is not for frames", "f.reduce(...) or f.map_with_state(...)")

    def _from(self, tree: exp.Select, known: Mapping[str, Frame]) -> tuple[Frame, tuple[str, ...]]:
        from_ = tree.args.get("from_")
        if from_ is None:
            self._text.refuse(tree, "it does not say FROM self", "select ... from self")
        source = from_.this
        if source.args.get("joins"):
            self._text.refuse("JOIN", _ONE_FRAME, _JOIN)
        if isinstance(source, exp.Subquery):
            return self.frame(source.this, known), ((source.alias,) if source.alias else ())
        if not isinstance(source, exp.Table) or source.name not in known or source.db:
            self._text.refuse(
                source, f"{self._text.written(source)}: a query is over {' or '.join(known)}", "select ... from self"
            )
        return known[source.name], (source.alias or source.name,)


class _Select:
    """One SELECT."""

    def __init__(self, text: Text, own: Mapping[str, OwnFunction], tree: exp.Select, tables: tuple[str, ...]) -> None:
        self._text = text
        self._tree = tree
        self._calls = Calls(text, own)
        self._tables = tables
        for part in (*tree.expressions, tree.args.get("where"), tree.args.get("group"), tree.args.get("having")):
            for column in () if part is None else part.find_all(exp.Column):
                if column.table in tables and not column.db:
                    column.set("table", None)

    def on(self, frame: Frame) -> Frame:
        """The frame with its steps."""
        scalars = Scalars(self._text, self._tables, self._calls.call)
        where = self._tree.args.get("where")
        if where is not None:
            self._refuse_aggregates(where)
            condition = scalars.condition(where.this)
            frame = self._calls.on(frame).filter(condition)
        grouped = self._tree.args.get("group") is not None or any(
            is_aggregate(node) for one in self._tree.expressions for node in one.walk()
        )
        having = self._tree.args.get("having")
        if grouped:
            grouping = Grouping(self._text, self._tree, self._calls, scalars)
            frame = grouping.on(frame)
            scalars = grouping.after = Scalars(self._text, (), self._calls.call, grouping.known)
        elif having is not None:
            self._text.refuse("HAVING", "HAVING is behind GROUP BY", "where ...")
        if having is not None:
            condition = scalars.condition(having.this)
            frame = self._calls.on(frame).filter(condition)
        return self._selected(frame, scalars, grouped=grouped)

    def _refuse_aggregates(self, where: exp.Expr) -> None:
        for node in where.walk():
            if is_aggregate(node):
                self._text.refuse(node, f"{self._text.written(node)} in WHERE", "having ...")

    def _selected(self, frame: Frame, scalars: Scalars, *, grouped: bool) -> Frame:
        first, *others = self._tree.expressions
        star = first.this if isinstance(first, exp.Column) else first
        if isinstance(star, exp.Star):
            if grouped:
                self._text.refuse(first, "* together with GROUP BY", "name the keys and aggregates")
            return self._beside(frame, scalars, star, others)
        chosen = self._named([first, *others], scalars)
        frame = self._calls.on(frame)
        if not any(one.meta.root_names() for one in chosen.values()):
            # Values without a column would be one row, whatever there is.
            names = {self._calls.name(): one for one in chosen.values()}
            frame = frame.with_columns(**names)
            chosen = {name: pl.col(made) for name, made in zip(chosen, names, strict=True)}
        made = frame.select(*_columns(chosen))
        return made.unique(list(chosen)) if self._distinct() else made

    def _beside(self, frame: Frame, scalars: Scalars, star: exp.Star, others: list[exp.Expr]) -> Frame:
        """All columns, and others."""
        if self._distinct():
            self._text.refuse(
                "DISTINCT", "SELECT DISTINCT * does not say by which columns", "select distinct a, b from self"
            )
        if star.args.get("rename"):
            self._text.refuse("RENAME", "RENAME is not for frames", "f.rename({...})")
        made = self._named([*(star.args.get("replace") or ()), *others], scalars)
        frame = self._calls.on(frame)
        if made:
            frame = frame.with_columns(*_columns(made))
        gone = [one.name for one in star.args.get("except_") or ()]
        gone += self._calls.results
        return frame.drop(*gone) if gone else frame

    def _named(self, items: list[exp.Expr], scalars: Scalars) -> dict[str, pl.Expr]:
        found: dict[str, pl.Expr] = {}
        for one in items:
            inner = one.this if isinstance(one, exp.Alias) else one
            name = one.alias if isinstance(one, exp.Alias) else inner.name if isinstance(inner, exp.Column) else ""
            if isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star):
                name = ""
            made = scalars.make(inner)
            if not name:
                self._text.refuse(one, f"{self._text.written(one)} has no name", "... as name")
            if name in found:
                self._text.refuse(one, f'there are two columns "{name}"', f"... as {name}_2")
            found[name] = made
        return found

    def _distinct(self) -> bool:
        distinct = self._tree.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            self._text.refuse(
                "DISTINCT", "DISTINCT ON keeps one row of several by an order", 'f.unique("key", keep="first")'
            )
        return distinct is not None


def _columns(named: Mapping[str, pl.Expr]) -> list[Any]:
    """Expressions by name as the verbs take them: a column that keeps its name is its name."""
    return [
        name if made.meta.is_column() and made.meta.output_name() == name else made.alias(name)
        for name, made in named.items()
    ]
