"""Port `schemas` on Amazon Redshift: all is done in one transaction but lengths of texts, and how tables lie.

Late-binding views hold no column; views that are bound do, and pg_depend knows them, as in PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.adapters.redshift.connection import Cluster, opened
from tidemill.model.migration import Existing, Migration, SqlColumn, SqlTable
from tidemill.model.table import split_name
from tidemill.model.types import Type
from tidemill.plan import redshift as sql
from tidemill.plan.revisions import create_versions, must_begin, noted, reading_views
from tidemill.plan.sql import quote

_ID = (
    "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}"
)

#: Distribution styles by the numbers of page "PG_CLASS_INFO".
_STYLE = "SELECT reldiststyle FROM pg_class_info WHERE reloid = {}"
_STYLES = {0: "even", 1: "key", 8: "all", 9: "auto"}
_ENCODES = re.compile(r'ALTER TABLE (?:("(?:[^"]|"")+")\.)?("(?:[^"]|"")+") ALTER COLUMN ("(?:[^"]|"")+") ENCODE (\w+)')


class RedshiftSchemas:
    """See the port.

    Args:
        parts: what the driver takes.
    """

    dialect = "redshift"

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts

    def type_name(self, kind: Type, length: int = 0) -> str:
        """What Redshift calls a type."""
        return sql.redshift_type(kind, length)

    def existing(self, tables: Iterable[str]) -> Existing:
        """Those of the tables that there are, and views that read them."""
        with opened(self._parts) as cluster:
            made, ids = {}, {}
            for table in tables:
                rows = cluster.rows(sql.COLUMNS.format(*_where(table)))
                if rows:
                    id_ = int(cluster.rows(_ID.format(*_where(table)))[0][0])
                    ids[id_] = table
                    style = cluster.rows(_STYLE.format(id_))
                    found = _STYLES.get(int(style[0][0])) if style else None
                    made[table] = SqlTable(table, tuple(_column(row) for row in rows), style=found)
            cluster.run("SET search_path TO pg_catalog")
            return Existing(made, reading_views(ids, cluster.rows))

    def applied(self, versions: str) -> tuple[str, ...]:
        """The revisions that are noted."""
        with opened(self._parts) as cluster:
            if not cluster.rows(sql.COLUMNS.format(*_where(versions))):
                return ()
            return _noted(cluster, versions)

    def apply(self, migration: Migration) -> None:
        """Do one step."""
        with opened(self._parts) as cluster:
            cluster.run(create_versions(migration.versions))
            for part in migration.parts:
                if not part.atomic:
                    for statement in part.statements:
                        if not _is_encoded(cluster, statement):
                            cluster.run(statement)
                    continue
                cluster.begin()
                try:
                    # The lock comes first: a transaction sees the database as of its first statement.
                    cluster.run(f"LOCK {quote(migration.versions)}")
                    must_begin(migration, _noted(cluster, migration.versions))
                    for statement in part.statements:
                        cluster.run(statement)
                    cluster.commit()
                except BaseException:
                    cluster.roll_back()
                    raise


def _is_encoded(cluster: Cluster, statement: str) -> bool:
    """Whether a statement gives a column the encoding that it has, which Redshift refuses: a step is done again."""
    told = _ENCODES.fullmatch(statement)
    if told is None:
        return False
    schema, table, column = (part and part[1:-1].replace('""', '"').lower() for part in told.groups()[:3])
    where = "current_schema()" if schema is None else sql.literal(schema)
    rows = cluster.rows(sql.COLUMNS.format(where, sql.literal(table)))
    return any(row[0].lower() == column and _encoding(row[5]) == told[4].lower() for row in rows)


def _encoding(text: object) -> str:
    """What encodes nothing has two names."""
    return "raw" if str(text).lower() == "none" else str(text).lower()


def _noted(cluster: Cluster, versions: str) -> tuple[str, ...]:
    return tuple(row[0] for row in cluster.rows(noted(versions)))


def _where(table: str) -> tuple[str, str]:
    schema, name = split_name(table)
    return "current_schema()" if schema is None else sql.literal(schema.lower()), sql.literal(name.lower())


def _column(row: tuple[Any, ...]) -> SqlColumn:
    return SqlColumn(row[0], row[1], str(row[2]).upper() != "NO", None, bool(row[3]), int(row[4]), _encoding(row[5]))
