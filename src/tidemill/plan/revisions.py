"""Which revisions a destination notes, and which views keep its tables from changing: SQL and its answers."""
# ruff: noqa: S608 - names are quoted, ids are numbers

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tidemill.model.errors import Conflict
from tidemill.model.migration import Migration, SqlView
from tidemill.plan.sql import quote

#: Views that read some relations directly.
_READING = (
    "SELECT DISTINCT r.ev_class, d.refobjid, n.nspname, c.relname, c.relkind, pg_get_viewdef(c.oid) FROM pg_depend d"
    " JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE r.ev_class <> d.refobjid AND c.relkind IN ('v', 'm') AND d.refobjid IN ({})"
    " AND d.refclassid = (SELECT k.oid FROM pg_class k JOIN pg_namespace s ON s.oid = k.relnamespace"
    " WHERE k.relname = 'pg_class' AND s.nspname = 'pg_catalog')"
)


def create_versions(versions: str) -> str:
    """The statement that makes a table of versions, as Alembic does."""
    return f"CREATE TABLE IF NOT EXISTS {quote(versions)} (version_num varchar(32) NOT NULL, PRIMARY KEY (version_num))"


def noted(versions: str) -> str:
    """A query for the revisions that are applied."""
    return f"SELECT version_num FROM {quote(versions)} ORDER BY version_num"


def must_begin(migration: Migration, found: Iterable[Any]) -> None:
    """Raise Conflict unless these revisions are applied by which a step begins."""
    there = sorted(str(one) for one in found)
    if there != sorted(migration.before):
        raise Conflict(
            f"Revision {migration.revision} follows {_listed(migration.before)}, and the destination is at "
            f"{_listed(there)}: somebody else changes it.",
            hint="do it again",
        )


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(ids) or "nothing"


def reading_views(tables: Mapping[int, str], ask: Callable[[str], list[tuple[Any, ...]]]) -> tuple[SqlView, ...]:
    """The views that read some tables, also by way of others, each after those that it reads.

    Args:
        tables: name by object id.
        ask: answers a query of the catalog, in PostgreSQL's terms, which Redshift shares.
    """
    found: dict[int, SqlView] = {}
    depth: dict[int, int] = {}
    level = {id_: {name} for id_, name in tables.items()}
    for step in range(1, 100):
        if not level:
            break
        rows = ask(_READING.format(", ".join(str(int(one)) for one in level)))
        following: dict[int, set[str]] = {}
        for view, read, schema, name, kind, query in rows:
            following.setdefault(view, set()).update(level[read])
            known = found[view].tables if view in found else frozenset()
            full = f"{quote(schema)}.{quote(name)}"
            # The kind is one byte to PostgreSQL.
            kept = (kind.decode() if isinstance(kind, bytes) else str(kind)) == "m"
            found[view] = SqlView(full, str(query), known | following[view], kept)
            depth[view] = step
        level = following
    return tuple(found[view] for view in sorted(found, key=lambda one: (depth[one], found[one].name)))
