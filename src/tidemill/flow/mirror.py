"""Mirroring: a catalog outside shows the tables of `main`, by their pointers.

    entries there, pointers of `main` -> plan/mirror: an act for each table -> the catalog -> the record

It goes table by table: there is no step that would change two entries. What keeps it right is that it looks again.
Whoever has done something there reads `main` once more, and begins anew if that has moved: so the last one who looks
has seen the newest pointers, whatever others did between two of its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tidemill.flow.deliver import Report, failed
from tidemill.flow.services import Services
from tidemill.model.branch import MAIN
from tidemill.model.delivery import CatalogMirror, DeliverySpec
from tidemill.model.errors import Conflict, Refused
from tidemill.model.table import TableName
from tidemill.plan.mirror import POINTER, Act, name_in, names_in, next_act, owner_of, said_of
from tidemill.ports.mirror import Entry, Shown, TableMirror

#: How often entries are looked at again, because `main` has moved or somebody else was there.
_TRIES = 8


def mirror(
    services: Services, spec: DeliverySpec, open_catalog: Callable[[], TableMirror], hide: Callable[[str], str] = str
) -> Report:
    """Bring a catalog to what `main` holds, and note how that went. Whatever happens is in the report.

    Args:
        services: the project.
        spec: of a mirror.
        open_catalog: the catalog.
        hide: takes secrets out of what goes on record.
    """
    assert spec.mirror is not None
    try:
        changed, pointers = _bring(services, spec, spec.mirror, open_catalog())
        with services.metadata.write() as tx:
            tx.deliveries.done(spec, pointers, 0, services.clock.now())
    except Exception as error:
        return failed(services, spec, error, hide)
    return Report(spec, 0, changed)


def _bring(
    services: Services, spec: DeliverySpec, mirrored: CatalogMirror, catalog: TableMirror
) -> tuple[dict[TableName, str], dict[TableName, str]]:
    """What changed, and the pointers that are shown now.

    Raises:
        Refused: a table cannot be shown; all others are.
    """
    changed: dict[TableName, str] = {}
    head, pointers = _look(services)
    for _ in range(_TRIES):
        names = names_in(mirrored, pointers)
        one = _Pass(services, catalog, head, pointers)
        for database, tables in sorted(_by_database(services, spec, mirrored, names).items()):
            one.through(database, tables)
        changed |= one.changed
        before = head
        head, pointers = _look(services)
        if head == before and not one.again:
            if one.refused:
                raise one.refused[0]
            return changed, {name: pointers[name] for name in names}
    raise Conflict(
        "The catalog is ahead of this project's main, or others change it all the time.",
        hint="a metadata database that was restored is behind: remove the entries of its tables, and deliver again",
    )


def _look(services: Services) -> tuple[int, dict[TableName, str]]:
    """The commit that `main` is at, and its pointers."""
    with services.metadata.read() as tx:
        ref = tx.refs.get(MAIN)
        return (0 if ref is None else ref.head), tx.refs.pointers(MAIN)


def _by_database(
    services: Services, spec: DeliverySpec, mirrored: CatalogMirror, names: Mapping[TableName, tuple[str, str]]
) -> dict[str, dict[str, TableName]]:
    """The tables to show, by database and what they are called there; databases of what was shown before are empty."""
    with services.metadata.read() as tx:
        known = [one for one in tx.deliveries.all(spec.pipeline) if one.spec.to == spec.to]
    made: dict[str, dict[str, TableName]] = {name_in(mirrored, name)[0]: {} for one in known for name in one.delivered}
    for name, (database, called) in names.items():
        made.setdefault(database, {})[called] = name
    return made


class _Pass:
    """Goes once over the catalog, by the pointers of one commit of `main`."""

    def __init__(self, services: Services, catalog: TableMirror, head: int, pointers: Mapping[TableName, str]) -> None:
        self._services = services
        self._catalog = catalog
        self._head = head
        self._pointers = pointers
        self._owner = owner_of(services.project, services.lake.url("x").removesuffix("/x"))
        self.changed: dict[TableName, str] = {}
        self.refused: list[Refused] = []
        #: Somebody else was there meanwhile, or has seen a later commit.
        self.again = False

    def through(self, database: str, tables: Mapping[str, TableName]) -> None:
        """Go over one database: the tables to show, and entries of ours that are none of them any more."""
        entries = self._catalog.entries(database)
        if entries is None:
            if tables:
                self._catalog.make_database(database)
            entries = {}
        for called in sorted({*tables, *entries}):
            try:
                self._one(database, called, tables.get(called), entries.get(called))
            except Conflict:
                self.again = True
            except Refused as error:
                self.refused.append(error)

    def _one(self, database: str, called: str, name: TableName | None, entry: Entry | None) -> None:
        pointer = None if name is None else self._pointers[name]
        found = None if entry is None else entry.parameters
        act = next_act(pointer, self._head, self._owner, found, f"{database}.{called}")
        if act is Act.REMOVE:
            self._catalog.remove(database, called)
            self.changed[TableName(database, called)] = "removed"
        elif act is Act.OLDER:
            self.again = True
        elif act is not Act.NOTHING:
            assert name is not None
            assert pointer is not None
            before = None if found is None else found[POINTER]
            said = said_of(pointer, self._head, self._owner, before)
            columns = tuple(self._services.catalog.load(name, pointer).schema)
            shown = Shown(called, pointer.rpartition("/metadata/")[0], columns, said)
            if entry is None:
                self._catalog.create(database, shown)
            else:
                self._catalog.replace(database, shown, entry)
            self.changed[name] = ""
