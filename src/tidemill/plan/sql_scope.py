"""What names mean at a place of a SELECT: columns of what it reads, names that it gives, an outer query's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sqlglot import exp

from tidemill.model.lineage import ColumnName, Origin, Origins, computed, deciding, joined

if TYPE_CHECKING:
    from sqlglot.expressions import Expr


class Untold(Exception):
    """What a result comes from cannot be told; the message is why."""


@dataclass
class Relation:
    """What a table, a query or a function in FROM gives.

    Args:
        columns: names with their origins, in order.
        decides: what steers its rows.
        open_as: the table whose columns are not known: any name may be one.
        whole: what everything in it comes from, where it is a function whose columns are not known.
    """

    columns: Sequence[tuple[str, Origins]]
    decides: Origins
    open_as: str = ""
    whole: Origins | None = None

    def get(self, name: str) -> Origins | None:
        """What the column of that name comes from; None: it has none, as far as that is known."""
        return next((origins for known, origins in self.columns if known.lower() == name.lower()), None)

    def may(self, name: str) -> Origins | None:
        """What a column would come from that is not known, but may be there."""
        if self.open_as:
            return {ColumnName(self.open_as, name): Origin.COPIED}
        return self.whole

    def named(self, names: Sequence[str]) -> Relation:
        """The same with other names for the first columns."""
        if not names:
            return self
        if self.open_as:
            raise Untold(f'The columns of "{self.open_as}" are not known, so they cannot get other names.')
        if self.whole is not None:
            return Relation([(name, self.whole) for name in names], self.decides, whole=self.whole)
        rest = self.columns[len(names) :]
        renamed = [(name, origins) for name, (_, origins) in zip(names, self.columns, strict=False)]
        return Relation([*renamed, *rest], self.decides)

    @property
    def everything(self) -> Origins:
        """What a row of it as a value comes from."""
        if self.open_as:
            raise Untold(f'The columns of "{self.open_as}" are not known.')
        return computed(self.whole or {}, *(origins for _, origins in self.columns))


Ctes: TypeAlias = "Mapping[str, Relation]"


class Queries(Protocol):
    """What reads inner queries."""

    def query(self, node: Expr, outer: Scope | None, ctes: Ctes) -> Relation:
        """What a query gives."""
        ...


@dataclass
class _Source:
    alias: str
    namespace: str
    relation: Relation


class Scope:
    """The names of one SELECT.

    Args:
        outer: of the query around it.
        ctes: queries of WITH, by their names in small letters.
        queries: reads inner queries.
    """

    def __init__(self, outer: Scope | None, ctes: Ctes, queries: Queries) -> None:
        self.outer, self.ctes, self.queries = outer, ctes, queries
        #: What the SELECT's own names come from, as they are given one after the other.
        self.aliases: dict[str, Origins] = {}
        #: Columns that USING made one of.
        self.merged: dict[str, Origins] = {}
        self.windows: dict[str, exp.Expr] = {}
        self.decides: Origins = {}
        #: Names of lambdas and comprehensions at this place: they are no columns.
        self.bound: list[str] = []
        self._sources: list[_Source] = []

    @property
    def count(self) -> int:
        """How many tables are read so far."""
        return len(self._sources)

    def add(self, alias: str, relation: Relation, namespace: str = "") -> None:
        """Something more that is read."""
        self._sources.append(_Source(alias, namespace, relation))

    def forget(self, before: int) -> None:
        """What was added since can be named no more."""
        del self._sources[before:]

    def decide(self, *origins: Origins) -> None:
        """These steer the rows."""
        self.decides = joined(self.decides, deciding(*origins))

    def has(self, name: str) -> bool:
        """Whether a column of what is read here has that name, as far as that is known."""
        return any(one.relation.get(name) is not None for one in self._sources)

    def column(self, node: exp.Column) -> Origins:
        """What a column comes from. Raises Untold."""
        parts = [part.name for part in node.parts]
        if len(parts) == 1 and parts[0] in self.bound:
            return {}
        found = self._found(parts)
        if found is None:
            raise Untold(f'No table has a column "{".".join(parts)}", as far as is known.')
        return found

    def _found(self, parts: Sequence[str]) -> Origins | None:
        scope: Scope | None = self
        while scope is not None:
            found = scope._qualified(parts) if len(parts) > 1 else None
            if found is None:
                found = scope._bare(parts[0])
                found = computed(found) if found is not None and len(parts) > 1 else found
            if found is not None:
                return found
            scope = scope.outer
        return None

    def _qualified(self, parts: Sequence[str]) -> Origins | None:
        """`table.column`, `namespace.table.column`; what follows are fields of a struct."""
        for source in self._sources:
            for length in (2, 1):
                names = [source.namespace, source.alias] if length == 2 else [source.alias]
                if len(parts) <= length or [one.lower() for one in parts[:length]] != names:
                    continue
                found = source.relation.get(parts[length])
                found = source.relation.may(parts[length]) if found is None else found
                if found is not None:
                    return found if len(parts) == length + 1 else computed(found)
        return None

    def _bare(self, name: str) -> Origins | None:
        lower = name.lower()
        if lower in self.merged:
            return self.merged[lower]
        found = [origins for one in self._sources if (origins := one.relation.get(name)) is not None]
        if len(found) > 1:
            raise Untold(f'"{name}" is a column of several tables.')
        if found:
            return found[0]
        maybe = [origins for one in self._sources if (origins := one.relation.may(name)) is not None]
        if lower in self.aliases:
            return joined(self.aliases[lower], *maybe)
        row = next((one for one in self._sources if one.alias == lower), None)
        if row is not None and not row.relation.open_as:
            return row.relation.everything
        if len(maybe) > 1:
            raise Untold(f'"{name}" may be a column of several tables whose columns are not known.')
        return maybe[0] if maybe else None

    # Several sources at once

    def sides(self, name: str, before: int) -> tuple[Origins, Origins]:
        """A column of USING, on the left of a join and on its right."""
        scopes = (Scope(None, {}, self.queries), Scope(None, {}, self.queries))
        for at, source in enumerate(self._sources):
            scopes[at >= before]._sources.append(source)
        scopes[0].merged = dict(self.merged)
        left, right = (one._bare(name) for one in scopes)
        if left is None or right is None:
            raise Untold(f'Not both sides of a join have a column "{name}", as far as is known.')
        return left, right

    def common(self, before: int) -> list[str]:
        """The columns that both sides of a NATURAL join have."""
        if any(one.relation.may("") is not None for one in self._sources):
            raise Untold("A NATURAL join goes by columns that are not known.")
        left = {name.lower() for one in self._sources[:before] for name, _ in one.relation.columns}
        return [name for one in self._sources[before:] for name, _ in one.relation.columns if name.lower() in left]

    def all_columns(self, table: Sequence[str]) -> list[tuple[str, Origins]]:
        """What `*` stands for, or `table.*`."""
        made: list[tuple[str, Origins]] = []
        seen: set[str] = set()
        wanted = [part.lower() for part in table]
        chosen = [one for one in self._sources if wanted in ([], [one.alias], [one.namespace, one.alias])]
        if not chosen:
            raise Untold(f'There is no table "{".".join(table)}" to take all columns of.')
        for source in chosen:
            if source.relation.open_as:
                raise Untold(f'The columns of "{source.relation.open_as}" are not known.')
            if source.relation.whole is not None and not source.relation.columns:
                raise Untold("The columns of a table function are not known.")
            for name, origins in source.relation.columns:
                if wanted or name.lower() not in self.merged:
                    made.append((name, origins))
                elif name.lower() not in seen:
                    seen.add(name.lower())
                    made.append((name, self.merged[name.lower()]))
        return made


def star(node: Expr, scope: Scope) -> list[tuple[str, Origins]]:
    """What `*` or `t.*` gives, with its EXCLUDE, REPLACE and RENAME."""
    from tidemill.plan.sql_origins import origins_of

    bare, table = (node.this, [part.name for part in node.parts[:-1]]) if isinstance(node, exp.Column) else (node, [])
    left_out = {one.name.lower() for one in bare.args.get("except_") or ()}
    instead = {one.alias.lower(): origins_of(one.this, scope) for one in bare.args.get("replace") or ()}
    names = {one.this.name.lower(): one.alias for one in bare.args.get("rename") or ()}
    return [
        (names.get(name.lower(), name), instead.get(name.lower(), origins))
        for name, origins in scope.all_columns(table)
        if name.lower() not in left_out
    ]
