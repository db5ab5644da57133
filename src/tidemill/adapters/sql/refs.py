"""Store `refs`: refs, the table pointers on them, their bases and views. Their logs are in `log.py`.

Pointers live in `iceberg_tables`, where PyIceberg and other engines read and move them too; the rest of a ref is
ours. Every change of a ref locks its record first, so commits on one ref are serial (rule 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update

from tidemill.adapters.sql.log import RefLog
from tidemill.adapters.sql.schema import catalog_name, iceberg_namespaces, iceberg_tables, ref_bases, refs, views
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.adapters.sql.tickets import Tickets
from tidemill.model.branch import MAIN, REF_ENDS, REF_TRANSITIONS, Ref, RefKind, RefState, taken_name
from tidemill.model.errors import Conflict, Refused, UnknownName
from tidemill.model.table import TableName
from tidemill.ports.metadata import View

_MAY_CHANGE = frozenset({"state", "expires_at"})
_WRITABLE = frozenset({RefState.OPEN, RefState.FAILED})
#: The widths of PyIceberg's columns.
_NAME_WIDTH, _POINTER_WIDTH = 255, 1000
#: Rows of `iceberg_tables` that are tables: other engines keep views there too.
_IS_TABLE = (iceberg_tables.c.iceberg_type == "TABLE") | iceberg_tables.c.iceberg_type.is_(None)


class SqlRefs(RefLog, Tickets):
    """The port's `Refs` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        #: Refs that this transaction has locked and may write, with their ids.
        self._locked: dict[str, int] = {}

    def create(
        self,
        name: str,
        kind: RefKind,
        *,
        now: datetime,
        pointers: Mapping[TableName, str],
        views: Iterable[View] = (),
        parent: str | None = None,
        parent_head: int | None = None,
        run_id: int | None = None,
        expires_at: datetime | None = None,
    ) -> Ref:
        """Make a ref that holds `pointers`, which are also kept as its bases. Raises Refused where it exists."""
        session = self._session
        catalog = catalog_name(session.project, name)
        if not name.strip() or len(catalog) > _NAME_WIDTH:
            raise Refused(f'"{name}" cannot name a {kind}: it is empty or too long.', hint="a short name")
        made = session.add(
            session.insert(refs)
            .values(
                project=session.project,
                name=name,
                kind=kind,
                state=RefState.OPEN,
                head=0,
                created_at=now,
                parent=parent,
                parent_head=parent_head,
                run_id=run_id,
                expires_at=expires_at,
            )
            .on_conflict_do_nothing()
            .returning(refs)
        )
        if made is None:
            raise taken_name(name)
        if self.pointers(name):
            raise Refused(
                f'The catalog "{catalog}" holds tables, and no ref of that name stands.',
                hint="another name; or drop those tables with the tool that made them",
            )
        self._locked[name] = made.id
        for table, pointer in pointers.items():
            _check_pointer(table, pointer)
        self._add_namespaces(catalog, {table.namespace for table in pointers})
        session.add_all(session.insert(iceberg_tables), [_iceberg_row(catalog, *item) for item in pointers.items()])
        bases = [
            {"ref_id": made.id, **_of(table), "pointer": pointer, "forked": pointer}
            for table, pointer in pointers.items()
        ]
        session.add_all(session.insert(ref_bases), bases)
        for view in views:
            self.set_view(name, view.name, view.sql)
        return _ref(made)

    def get(self, name: str) -> Ref | None:
        """The newest ref of that name, dropped and merged ones included."""
        row = self._row(name)
        return _ref(row) if row else None

    def all(self, *, kinds: Iterable[RefKind] | None = None, states: Iterable[RefState] | None = None) -> list[Ref]:
        """Refs, oldest first."""
        query = select(refs).where(self._own()).order_by(refs.c.id)
        if kinds is not None:
            query = query.where(refs.c.kind.in_(list(kinds)))
        if states is not None:
            query = query.where(refs.c.state.in_(list(states)))
        return [_ref(row) for row in self._session.all(query)]

    def lock(self, name: str) -> Ref:
        """Lock the ref's row until the transaction ends. Raises UnknownName."""
        row = self._row(name, lock=True)
        if row is None:
            raise self._unknown(name)
        return _ref(row)

    def update(self, name: str, **values: Any) -> None:
        """Set fields; a new state must follow the old one by REF_TRANSITIONS. Raises Refused, UnknownName."""
        if unknown := values.keys() - _MAY_CHANGE:
            raise TypeError(f"a ref has no field to set called {', '.join(sorted(unknown))}")
        row = self._row(name, lock=True)
        if row is None:
            raise self._unknown(name)
        if "state" in values:
            before, to = RefState(row.state), RefState(values["state"])
            if name == MAIN or (before is not to and to not in REF_TRANSITIONS[before]):
                raise Refused(f'"{name}" is {before}: it cannot become {to}.')
            self._locked.pop(name, None)
        if values:
            self._session.change(update(refs).where(refs.c.id == row.id).values(**values))

    def remove_pointers(self, name: str) -> None:
        """Take away the ref's pointers, bases and views; the record stays. Raises Refused for main."""
        if name == MAIN:
            raise Refused('The pointers of "main" are the published tables: they are dropped one by one.')
        row = self._row(name, lock=True)
        if row is None:
            raise self._unknown(name)
        catalog = catalog_name(self._session.project, name)
        self._session.change(delete(iceberg_tables).where(iceberg_tables.c.catalog_name == catalog))
        self._session.change(delete(iceberg_namespaces).where(iceberg_namespaces.c.catalog_name == catalog))
        self._session.change(delete(ref_bases).where(ref_bases.c.ref_id == row.id))
        self._session.change(delete(views).where(views.c.ref_id == row.id))

    def pointers(self, name: str) -> dict[TableName, str]:
        """All pointers of a ref, in one SELECT (rule 10)."""
        c = iceberg_tables.c
        query = (
            select(c.table_namespace, c.table_name, c.metadata_location)
            .where(c.catalog_name == catalog_name(self._session.project, name), _IS_TABLE)
            .where(c.metadata_location.is_not(None))
            .order_by(c.table_namespace, c.table_name)
        )
        return {TableName(namespace, table): at for namespace, table, at in self._session.all(query)}

    def bases(self, name: str) -> dict[TableName, str]:
        """The pointers that the ref was forked with."""
        c = ref_bases.c
        query = select(c.namespace, c.table_name, c.pointer).where(c.ref_id == self._newest_id(name))
        query = query.where(c.pointer.is_not(None))
        return {TableName(namespace, table): at for namespace, table, at in self._session.all(query)}

    def swap(self, name: str, table: TableName, before: str | None, after: str | None) -> None:
        """Move one pointer: None before creates, None after drops. Raises Conflict, Refused."""
        self._writable(name)
        session = self._session
        c = iceberg_tables.c
        catalog = catalog_name(session.project, name)
        row = (c.catalog_name == catalog, c.table_namespace == table.namespace, c.table_name == table.table)
        here = (*row, c.metadata_location == before, _IS_TABLE)
        if after is not None:
            _check_pointer(table, after)
        if before is None and after is None:
            met = session.first(select(c.table_name).where(*row)) is None
        elif before is None:
            self._add_namespaces(catalog, {table.namespace})
            new = _iceberg_row(catalog, table, str(after))
            insert = session.insert(iceberg_tables).values(**new).on_conflict_do_nothing()
            met = session.add(insert.returning(c.table_name)) is not None
        elif after is None:
            met = session.change(delete(iceberg_tables).where(*here)) == 1
        else:
            moved = {"metadata_location": after, "previous_metadata_location": before}
            met = session.change(update(iceberg_tables).where(*here).values(**moved)) == 1
        if not met:
            found = self.pointers(name).get(table)
            state = f"it now is at {found}" if found else "it does not exist"
            raise Conflict(
                f'Table {table} on "{name}" was moved by somebody else.',
                where=f"{state}, expected {before or 'no such table'}",
                hint="run again: it starts from the new state",
            )

    def set_base(self, name: str, table: TableName, pointer: str | None) -> None:
        """Set or remove the base of a table."""
        self._put(ref_bases, self._writable(name), table, pointer=pointer)

    def views(self, name: str) -> dict[TableName, View]:
        """The views of a ref."""
        query = select(views).where(views.c.ref_id == self._newest_id(name))
        found = (View(TableName(row.namespace, row.table_name), row.sql) for row in self._session.all(query))
        return {view.name: view for view in found}

    def set_view(self, name: str, table: TableName, sql: str | None) -> None:
        """Create, replace, or with None drop a view."""
        ref_id = self._writable(name)
        if sql is None:
            c = views.c
            mine = (c.ref_id == ref_id, c.namespace == table.namespace, c.table_name == table.table)
            self._session.change(delete(views).where(*mine))
        else:
            self._put(views, ref_id, table, sql=sql)

    def _put(self, into: Any, ref_id: int, table: TableName, **values: Any) -> None:
        session = self._session
        insert = session.insert(into).values(ref_id=ref_id, **_of(table), **values)
        key = ["ref_id", "namespace", "table_name"]
        session.add(insert.on_conflict_do_update(index_elements=key, set_=values).returning(into.c.ref_id))

    def _add_namespaces(self, catalog: str, namespaces: Iterable[str]) -> None:
        row = {"catalog_name": catalog, "property_key": "exists", "property_value": "true"}
        insert = self._session.insert(iceberg_namespaces).on_conflict_do_nothing()
        self._session.add_all(insert, [{**row, "namespace": namespace} for namespace in sorted(namespaces)])

    def _writable(self, name: str) -> int:
        """Lock the ref, once a transaction, and return its id. Raises UnknownName, Refused."""
        if name in self._locked:
            return self._locked[name]
        row = self._row(name, lock=True)
        if row is None:
            raise self._unknown(name)
        if row.kind == RefKind.TAG:
            raise Refused(f'"{name}" is a tag: it never moves.', hint=f"tidemill branch create NAME --from {name}")
        if RefState(row.state) not in _WRITABLE:
            raise Refused(f'"{name}" is {row.state}: nothing can be written to it any more.')
        self._locked[name] = row.id
        return int(row.id)

    def _row(self, name: str, *, lock: bool = False) -> AnyRow | None:
        query = select(refs).where(self._own(), refs.c.name == name).order_by(refs.c.id.desc()).limit(1)
        return self._session.first(query, lock=lock)

    def _newest_id(self, name: str) -> Any:
        query = select(refs.c.id).where(self._own(), refs.c.name == name)
        return query.order_by(refs.c.id.desc()).limit(1).scalar_subquery()

    def _unknown(self, name: str) -> UnknownName:
        return UnknownName.of("branch", name, (ref.name for ref in self.all() if ref.state not in REF_ENDS))

    def _own(self) -> Any:
        return refs.c.project == self._session.project


def _of(table: TableName) -> dict[str, str]:
    return {"namespace": table.namespace, "table_name": table.table}


def _iceberg_row(catalog: str, table: TableName, pointer: str) -> dict[str, Any]:
    return {
        "catalog_name": catalog,
        "table_namespace": table.namespace,
        "table_name": table.table,
        "metadata_location": pointer,
        "previous_metadata_location": None,
        "iceberg_type": "TABLE",
    }


def _check_pointer(table: TableName, pointer: str) -> None:
    if len(pointer) > _POINTER_WIDTH:
        raise Refused(
            f"The address of table {table} is longer than {_POINTER_WIDTH} characters, which Iceberg's catalog allows.",
            where=pointer[:80] + "...",
            hint="move the project to a folder with a shorter path",
        )


def _ref(row: AnyRow) -> Ref:
    return Ref(
        name=row.name,
        kind=RefKind(row.kind),
        state=RefState(row.state),
        head=row.head,
        created_at=row.created_at,
        parent=row.parent,
        parent_head=row.parent_head,
        run_id=row.run_id,
        expires_at=row.expires_at,
    )
