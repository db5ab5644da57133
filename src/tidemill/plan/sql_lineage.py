"""Which columns a SELECT's columns come from, by its text and the columns of the tables that it reads.

    statement, tables' columns -> Derivation

A column that is copied or computed with is told apart from one that only steers which rows there are (WHERE, JOIN ON,
GROUP BY ...). Where a statement does what is not known here, or a name cannot be told, nothing is guessed: the whole
result is told as unknown, with the reason. Columns are found as DuckDB finds them: names in any case, those of tables
before names that the SELECT gives, an outer query's last.

What expressions come from is `sql_origins.py`'s, which names mean what `sql_scope.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from sqlglot import exp

from tidemill.model.errors import UserError
from tidemill.model.lineage import ColumnName, Derivation, Derived, Origin, Origins, computed, deciding, joined
from tidemill.plan.sql_origins import origins_of
from tidemill.plan.sql_scope import Ctes, Relation, Scope, Untold, star
from tidemill.plan.sql_tables import parse_query

#: Rounds of a recursive WITH until nothing new comes in; each adds what one step of it brings.
_ROUNDS = 50

Columns: TypeAlias = "Sequence[str] | None"


def sql_lineage(sql: str, tables: Mapping[str, Columns]) -> Derivation:
    """Which columns each column of a statement's result comes from.

    Args:
        sql: one statement that reads, in DuckDB's dialect.
        tables: the columns of each table that it reads, by the name that it has in the statement (`t`, or
            `namespace.t`); None: they are not known, and any name may be one of them.

    Returns:
        With origins by those names; or unknown, with the reason, where that cannot be told.
    """
    return _cached(sql, tuple((name, None if known is None else tuple(known)) for name, known in tables.items()))


@lru_cache(maxsize=4096)
def _cached(sql: str, tables: tuple[tuple[str, tuple[str, ...] | None], ...]) -> Derivation:
    try:
        statement = parse_query(sql)
        relation = _Reader({name.lower(): (name, known) for name, known in tables}).query(statement, None, {})
    except Untold as untold:
        return Derivation(unknown=str(untold))
    except UserError as error:
        return Derivation(unknown=error.what)
    except RecursionError:
        return Derivation(unknown="The statement is nested too deeply.")
    if relation.open_as or relation.whole is not None:
        return Derivation(unknown=f'The columns of "{relation.open_as or "a table function"}" are not known.')
    columns = tuple(Derived(name, origins) for name, origins in relation.columns)
    return Derivation(columns, frozenset(relation.decides))


class _Reader:
    """Reads the clauses of queries, inner ones first."""

    def __init__(self, tables: Mapping[str, tuple[str, tuple[str, ...] | None]]) -> None:
        self._tables = tables

    def query(self, node: exp.Expr, outer: Scope | None, ctes: Ctes) -> Relation:
        """What a query gives."""
        ctes = self._with(node, outer, ctes)
        if isinstance(node, exp.Select):
            return self._select(node, outer, ctes)
        if isinstance(node, exp.SetOperation):
            made = self._set(node, outer, ctes)
        elif isinstance(node, exp.Subquery):
            made = self.query(node.this, outer, ctes)
        elif isinstance(node, exp.Values):
            made = self._values(node, Scope(outer, ctes, self))
        elif isinstance(node, exp.Table):
            scope = Scope(outer, ctes, self)
            made = self._table(node, scope)
        else:
            raise Untold(f"{node.key.upper()} is not looked into.")
        scope = Scope(outer, ctes, self)
        scope.add("", made)
        self._order(node, scope, [origins for _, origins in made.columns])
        return Relation(made.columns, joined(made.decides, scope.decides), made.open_as, made.whole)

    def _with(self, node: exp.Expr, outer: Scope | None, ctes: Ctes) -> Ctes:
        with_ = node.args.get("with_")
        if with_ is None:
            return ctes
        known = dict(ctes)
        for cte in with_.expressions:
            name, names = cte.alias.lower(), cte.args["alias"].columns
            if with_.recursive and isinstance(cte.this, exp.SetOperation):
                known[name] = self._recursive(cte.this, name, names, outer, known)
            else:
                known[name] = self.query(cte.this, outer, known).named([one.name for one in names])
        return known

    def _recursive(
        self, node: exp.SetOperation, name: str, names: Sequence[exp.Expr], outer: Scope | None, known: Ctes
    ) -> Relation:
        """A WITH that may read itself: what comes in by one round after the other, until that is nothing new."""
        given = [one.name for one in names]
        found = self.query(node.this, outer, known).named(given)
        for _ in range(_ROUNDS):
            more = self._set(node, outer, {**known, name: found}).named(given)
            if more == found:
                return found
            found = more
        raise Untold(f'"{name}" reads itself in more ways than are looked into.')

    # Clauses of a SELECT

    def _select(self, node: exp.Select, outer: Scope | None, ctes: Ctes) -> Relation:
        scope = Scope(outer, ctes, self)
        if node.args.get("match") or node.args.get("pivots"):
            raise Untold("MATCH_RECOGNIZE and PIVOT are not looked into.")
        if (source := node.args.get("from_")) is not None:
            self._from(source.this, scope)
        for join in node.args.get("joins") or ():
            self._join(join, scope)
        for lateral in node.args.get("laterals") or ():
            self._from(lateral, scope)
        scope.windows = {one.name.lower(): one for one in node.args.get("windows") or ()}
        made: list[tuple[str, Origins]] = []
        plain: list[bool] = []
        for one in node.expressions:
            new = self._projected(one, scope)
            made += new
            plain += [not _aggregates(one)] * len(new)
        self._rows(node, scope, made, plain)
        return Relation(made, scope.decides)

    def _projected(self, node: exp.Expr, scope: Scope) -> list[tuple[str, Origins]]:
        value = node.this if isinstance(node, exp.Alias) else node
        if isinstance(value, exp.Columns) and isinstance(value.this, exp.Star):
            value = value.this
        if isinstance(value, exp.Star) or (isinstance(value, exp.Column) and isinstance(value.this, exp.Star)):
            return star(value, scope)
        if isinstance(node, exp.Aliases):
            raise Untold("Several names for one expression are not looked into.")
        origins = origins_of(value, scope)
        if isinstance(node, exp.Alias):
            scope.aliases.setdefault(node.alias.lower(), origins)
            return [(node.alias, origins)]
        return [(value.name if isinstance(value, exp.Column | exp.Dot) else "", origins)]

    def _rows(self, node: exp.Select, scope: Scope, made: list[tuple[str, Origins]], plain: list[bool]) -> None:
        """What WHERE, GROUP BY, HAVING, QUALIFY, DISTINCT, ORDER BY and LIMIT go by."""
        results = [origins for _, origins in made]
        for clause in ("where", "having", "qualify"):
            if (found := node.args.get(clause)) is not None:
                scope.decide(origins_of(found.this, scope))
        group = node.args.get("group")
        if group is not None:
            if group.args.get("all"):
                scope.decide(*(origins for origins, of_rows in zip(results, plain, strict=True) if of_rows))
            for key in ("expressions", "grouping_sets", "rollup", "cube"):
                for one in group.args.get(key) or ():
                    if isinstance(one, exp.Expr):
                        scope.decide(self._key(one, scope, results))
        distinct = node.args.get("distinct")
        if distinct is not None:
            on = distinct.args.get("on")
            scope.decide(*(results if on is None else [origins_of(on, scope)]))
        self._order(node, scope, results)

    def _order(self, node: exp.Expr, scope: Scope, results: Sequence[Origins]) -> None:
        order = node.args.get("order")
        for one in order.expressions if order is not None else ():
            key = one.this if isinstance(one, exp.Ordered) else one
            if key.name.upper() == "ALL" and isinstance(key, exp.Column | exp.Var) and not key.args.get("table"):
                scope.decide(*results)
            else:
                scope.decide(self._key(key, scope, results))
        for clause in ("limit", "offset"):
            found = node.args.get(clause)
            if found is not None:
                scope.decide(*(origins_of(part, scope) for part in found.iter_expressions()))

    def _key(self, node: exp.Expr, scope: Scope, results: Sequence[Origins]) -> Origins:
        """What a key of GROUP BY or ORDER BY is: a column, a name given in the SELECT, or the number of a result."""
        if isinstance(node, exp.Literal) and not node.is_string and node.name.isdecimal():
            at = int(node.name) - 1
            return results[at] if 0 <= at < len(results) else {}
        if isinstance(node, exp.Column) and not node.args.get("table"):
            named = scope.aliases.get(node.name.lower())
            if named is not None:
                # Which of the two counts differs by clause: both are told.
                column = scope.column(node) if scope.has(node.name) else {}
                return joined(named, column)
        return origins_of(node, scope)

    # What is read

    def _from(self, node: exp.Expr, scope: Scope) -> None:
        inner = node.this if isinstance(node, exp.Subquery) else None
        if isinstance(inner, exp.Table) and not node.alias:
            self._from(inner, scope)  # FROM (a JOIN b ON ...)
            for join in node.args.get("joins") or ():
                self._join(join, scope)
            return
        alias = node.args.get("alias")
        columns = [one.name for one in alias.columns] if isinstance(alias, exp.TableAlias) else []
        relation = self._relation(node, scope).named(columns)
        scope.decide(relation.decides)
        namespace = node.db.lower() if isinstance(node, exp.Table) and not node.alias else ""
        scope.add(node.alias_or_name.lower(), relation, namespace)
        for join in node.args.get("joins") or ():
            self._join(join, scope)

    def _relation(self, node: exp.Expr, scope: Scope) -> Relation:
        if node.args.get("pivots"):
            raise Untold("PIVOT and UNPIVOT are not looked into.")
        if isinstance(node, exp.Table):
            return self._table(node, scope)
        if isinstance(node, exp.Subquery):
            return self.query(node, scope, scope.ctes)
        if isinstance(node, exp.Values):
            return self._values(node, scope)
        if isinstance(node, exp.Lateral) and isinstance(node.this, exp.Query):
            return self.query(node.this, scope, scope.ctes)
        if isinstance(node, exp.Unnest | exp.Lateral):
            # Rows are made of the values, so they decide how many there are.
            of = computed(*(origins_of(part, scope) for part in node.iter_expressions() if not _names(part)))
            return Relation([], deciding(of), whole=of)
        raise Untold(f"FROM {node.key.upper()} is not looked into.")

    def _table(self, node: exp.Table, scope: Scope) -> Relation:
        if not isinstance(node.this, exp.Identifier):
            of = computed(origins_of(node.this, scope))
            return Relation([], deciding(of), whole=of)
        name = node.name.lower()
        if not node.db and name in scope.ctes:
            return scope.ctes[name]
        found = self._tables.get(f"{node.db.lower()}.{name}" if node.db else name)
        if found is None or node.catalog:
            raise Untold(f'Nothing is known of the table "{node.sql("duckdb")}".')
        table, columns = found
        if columns is None:
            return Relation([], {}, open_as=table)
        return Relation([(one, {ColumnName(table, one): Origin.COPIED}) for one in columns], {})

    def _values(self, node: exp.Values, scope: Scope) -> Relation:
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in node.expressions]
        made = [computed(*(origins_of(one, scope) for one in column)) for column in zip(*rows, strict=False)]
        return Relation([(f"col{at}", of) for at, of in enumerate(made)], {})

    def _join(self, join: exp.Join, scope: Scope) -> None:
        side, kind, method = join.side.upper(), join.kind.upper(), join.method.upper()
        before = scope.count
        self._from(join.this, scope)
        names = [one.name for one in join.args.get("using") or ()]
        if method == "NATURAL":
            names = scope.common(before)
        half = "SEMI" in (side, kind) or "ANTI" in (side, kind)
        for name in names:
            left, right = scope.sides(name, before)
            scope.decide(left, right)
            if not half:
                merged = computed(left, right) if side == "FULL" else right if side == "RIGHT" else left
                scope.merged[name.lower()] = merged
        if (on := join.args.get("on")) is not None:
            scope.decide(origins_of(on, scope))
        if half:
            scope.forget(before)

    def _set(self, node: exp.SetOperation, outer: Scope | None, ctes: Ctes) -> Relation:
        left, right = self.query(node.this, outer, ctes), self.query(node.expression, outer, ctes)
        if any(one.open_as or one.whole is not None for one in (left, right)):
            raise Untold("Columns of a table that are not known cannot be matched with others.")
        decides = joined(left.decides, right.decides)
        if node.args.get("by_name"):
            of = {name.lower(): (name, origins) for name, origins in left.columns}
            for name, origins in right.columns:
                older = of.get(name.lower())
                of[name.lower()] = (name, origins) if older is None else (older[0], joined(older[1], origins))
            columns = list(of.values())
        elif len(left.columns) != len(right.columns):
            raise Untold("The parts of a UNION have not the same number of columns.")
        elif isinstance(node, exp.Union):
            both = zip(left.columns, right.columns, strict=True)
            columns = [(name, joined(origins, other)) for (name, origins), (_, other) in both]
        else:
            columns = list(left.columns)
            decides = deciding(decides, *(origins for _, origins in (*left.columns, *right.columns)))
        if node.args.get("distinct") is not False:
            decides = deciding(decides, *(origins for _, origins in columns))
        return Relation(columns, decides)


def _aggregates(node: exp.Expr) -> bool:
    """Whether a result is of a group and not of its rows. Functions that are not known count as of rows."""
    return any(one.find_ancestor(exp.Window) is None for one in node.find_all(exp.AggFunc))


def _names(node: exp.Expr) -> bool:
    return isinstance(node, exp.TableAlias)
