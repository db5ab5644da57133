"""What the value of a SQL expression comes from: columns that it is made of, and columns that steer it only."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from tidemill.model.lineage import Origins, computed, deciding, joined
from tidemill.plan.sql_scope import Scope, Untold


def origins_of(node: exp.Expr, scope: Scope) -> Origins:
    """What an expression comes from, where the names are those of `scope`. Raises Untold."""
    match node:
        case exp.Column():
            if isinstance(node.this, exp.Star):
                raise Untold("A function of several columns at once is not looked into.")
            return scope.column(node)
        case exp.Paren() | exp.Alias():
            return origins_of(node.this, scope)
        case exp.Subquery() | exp.Select() | exp.SetOperation():
            inner = scope.queries.query(node, scope, scope.ctes)
            if inner.open_as or inner.whole is not None:
                raise Untold("The columns of an inner query are not known.")
            return joined(computed(*(of for _, of in inner.columns)), deciding(inner.decides))
        case exp.Exists():
            return deciding(*_parts(node, scope))
        case exp.Case():
            steers = [node.this, *(one.this for one in node.args["ifs"])]
            given = [*(one.args["true"] for one in node.args["ifs"]), node.args.get("default")]
            return joined(computed(*_each(given, scope)), deciding(*_each(steers, scope)))
        case exp.If():
            given = [node.args.get("true"), node.args.get("false")]
            return joined(computed(*_each(given, scope)), deciding(origins_of(node.this, scope)))
        case exp.Window():
            return joined(computed(origins_of(node.this, scope)), _window(node, scope))
        case exp.Filter():
            return joined(computed(origins_of(node.this, scope)), deciding(origins_of(node.expression.this, scope)))
        case exp.Order() if node.this is not None:
            steers = node.expressions
            return joined(computed(origins_of(node.this, scope)), deciding(*_each(steers, scope)))
        case exp.ArgMax() | exp.ArgMin():
            rest = [part for part in node.iter_expressions() if part is not node.this]
            return joined(computed(origins_of(node.this, scope)), deciding(*_each(rest, scope)))
        case exp.Comprehension() | exp.Lambda():
            return _bound(node, scope)
        case exp.Columns() | exp.Pivot():
            raise Untold(f"{node.key.upper()} is not looked into.")
        case exp.Star():
            if isinstance(node.parent, exp.Count):
                return {}
            raise Untold("A function of several columns at once is not looked into.")
        case exp.Explode() | exp.Unnest():
            found = computed(*_parts(node, scope))
            scope.decide(found)
            return found
    return computed(*_parts(node, scope))


def _parts(node: exp.Expr, scope: Scope) -> Iterable[Origins]:
    return _each(node.iter_expressions(), scope)


def _each(nodes: Iterable[exp.Expr | None], scope: Scope) -> list[Origins]:
    return [origins_of(one, scope) for one in nodes if one is not None]


def _window(node: exp.Expr, scope: Scope) -> Origins:
    """What a window goes by: its own clauses, and those of the named one that it begins with."""
    found = [origins_of(one, scope) for one in node.args.get("partition_by") or ()]
    for part in ("order", "spec"):
        if (clause := node.args.get(part)) is not None:
            found += _parts(clause, scope)
    named = node.args.get("alias")
    older = scope.windows.get(named.name.lower()) if isinstance(named, exp.Identifier) else None
    if older is not None and older is not node:
        found.append(_window(older, scope))
    return deciding(*found)


def _bound(node: exp.Expr, scope: Scope) -> Origins:
    """What is computed for each element of a list: the names of the elements are no columns."""
    names = node.expressions if isinstance(node, exp.Lambda) else [node.expression]
    more = [one.name for part in names for one in (part, *part.find_all(exp.Identifier))]
    # The list itself is looked for outside.
    outside = _each([node.args.get("iterator")], scope)
    scope.bound += more
    try:
        inside = [node.this] if isinstance(node, exp.Lambda) else [node.this, node.args.get("condition")]
        return computed(*outside, *_each(inside, scope))
    finally:
        del scope.bound[len(scope.bound) - len(more) :]
