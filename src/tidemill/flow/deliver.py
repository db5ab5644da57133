"""Delivering: a destination is brought to what `main` holds, and its position says so in the same transaction.

    position there, pointers of `main` -> plan/delivery: a step for each table -> one load -> the record

Doing it again does nothing; whoever comes second meets the position of the first, and looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tidemill.flow.query import Reading, reading
from tidemill.flow.schemas import must_be_current
from tidemill.flow.services import Services
from tidemill.flow.stage import spec_from
from tidemill.model.branch import ChangeKind
from tidemill.model.delivery import DeliveredTable, DeliverySpec, wait_after
from tidemill.model.errors import Conflict, DefinitionError, TidemillError, UnknownName, Unreachable
from tidemill.model.place import told
from tidemill.model.table import Scan, TableName, WriteMode
from tidemill.plan.delivery import (
    NEW,
    OLD,
    Commit,
    Held,
    Seen,
    Step,
    What,
    changed_rows,
    delivered_columns,
    gone_keys,
    has_equal_keys,
    next_step,
    position_text,
    read_position,
)
from tidemill.plan.sql import quote_all
from tidemill.ports.catalog import SnapshotInfo
from tidemill.ports.destination import Destination, Load, MirrorLost, TableLoad, Unfit
from tidemill.ports.schemas import HasSchemas, Revisions

#: How often a step is worked out again because somebody else has delivered meanwhile.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Report:
    """What a delivery did.

    Args:
        spec: what was to be delivered.
        rows: that were sent. `tables`: that changed, and why all rows of one were sent again.
        error: why it failed; None: the destination mirrors `main`.
        tries: failed ones in a row, this one included.
    """

    spec: DeliverySpec
    rows: int = 0
    tables: Mapping[TableName, str] | None = None
    error: BaseException | None = None
    tries: int = 0


def source_of(services: Services, spec: DeliverySpec) -> str:
    """The name under which a delivery's position is kept in the destination."""
    return f"{services.project}/{spec.pipeline}"


def deliver(
    services: Services,
    spec: DeliverySpec,
    open_destination: Callable[[str], Destination],
    hide: Callable[[str], str] = str,
    revisions: Callable[[str], Revisions | None] = lambda _: None,
) -> Report:
    """Bring a destination to what `main` holds, and note how that went. Whatever happens is in the report.

    Args:
        services: the project.
        spec: what goes where.
        open_destination: opens a destination by the name of its connection.
        hide: takes secrets out of what goes on record.
        revisions: those of a destination whose schema they keep: it is not altered otherwise. None: it is.
    """
    try:
        destination = open_destination(spec.to)
        try:
            kept = _kept(spec, destination, revisions(spec.to))
            rows, tables, pointers = _bring(services, spec, destination, kept=kept)
        finally:
            destination.close()
        with services.metadata.write() as tx:
            tx.deliveries.done(spec, pointers, rows, services.clock.now())
    except Exception as error:
        return failed(services, spec, error, hide)
    return Report(spec, rows, tables)


def failed(services: Services, spec: DeliverySpec, error: Exception, hide: Callable[[str], str]) -> Report:
    """Note a failed try; where even that fails, the record says still that the destination is behind."""
    try:
        with services.metadata.write() as tx:
            known = next((one for one in tx.deliveries.all(spec.pipeline) if one.spec.to == spec.to), None)
            tries = 1 + (known.tries if known is not None else 0)
            tx.deliveries.failed(spec, hide(told(error)), services.clock.now() + wait_after(tries))
    except (Unreachable, Conflict):
        return Report(spec, error=error)
    if isinstance(error, TidemillError) and not error.where:
        error.where = spec.place or None
    return Report(spec, error=error, tries=tries)


def _kept(spec: DeliverySpec, destination: Destination, revisions: Revisions | None) -> bool:
    """Whether the destination's schema is kept as revisions. Raises Refused: it lacks one."""
    if revisions is None:
        return False
    if not isinstance(destination, HasSchemas):
        raise DefinitionError(
            f'"{spec.to}" has no schema, and {revisions.place} keeps one.', hint=f"remove the folder {revisions.place}"
        )
    must_be_current(spec.to, revisions, destination.schemas())
    return True


def _bring(
    services: Services, spec: DeliverySpec, destination: Destination, *, kept: bool = False
) -> tuple[int, dict[TableName, str], dict[TableName, str]]:
    """Rows sent, tables that changed, and the pointers that are mirrored now."""
    source = source_of(services, spec)
    lost: set[str] = set()
    for tries_left in reversed(range(_TRIES)):
        with reading(services) as seen:
            before = destination.position(source)
            held = read_position(before)
            # A mirrored table that somebody has dropped there is made again, of all its rows.
            held = {name: replace(one, uuid="") if one.into in lost else one for name, one in held.items()}
            loads, after, changed = [], dict(held), dict[TableName, str]()
            pointers: dict[TableName, str] = {}
            for asked in spec.tables:
                if asked.table not in seen.pointers:
                    continue  # it has not been published, or it was dropped: what is there stays
                pointers[asked.table] = seen.pointers[asked.table]
                table = _seen(services, seen, asked.table, held.get(asked.table))
                step = next_step(asked, held.get(asked.table), table)
                if step is None:
                    continue
                load = _load(services, seen, asked, table, step, by_key=destination.by_key)
                loads.append(replace(load, kept=kept))
                after[asked.table] = table.held(asked)
                if step.what is not What.NOTHING:
                    changed[asked.table] = step.reason
            text = position_text(after)
            if text == before or (before is None and not after):
                return 0, {}, pointers
            try:
                rows = destination.load(Load(source, before, text, loads))
            except Unfit as error:
                made = f'tidemill schema revision {spec.to} -m "..."'
                error.hint = f"{made}, then tidemill schema upgrade {spec.to}"
                raise
            except MirrorLost as error:
                if not tries_left:
                    raise
                lost.add(error.table)
                continue
            except Conflict:
                if not tries_left:
                    raise
                continue
            finally:
                _end(loads)
        return rows, changed, pointers
    raise AssertionError("the last try returns or raises")


# -- what `main` has -----------------------------------------------------------------------------------------------


def _seen(services: Services, seen: Reading, name: TableName, held: Held | None) -> Seen:
    """A table as `main` has it, compared with the version that is mirrored."""
    catalog, pointer = services.catalog, seen.pointers[name]
    version, scan = catalog.load(name, pointer), catalog.scan(name, pointer)
    spec = spec_from(name, version.properties)
    made = Seen(version.uuid, version.snapshot_id, version.schema, spec.write, spec.key, scan.files)
    if held is None or held.uuid != version.uuid:
        return made
    if held.snapshot is None:
        return replace(made, before=(), since=_since(catalog.history(name, pointer), None, version.snapshot_id))
    try:
        before = catalog.scan(name, pointer, snapshot_id=held.snapshot).files
    except (UnknownName, FileNotFoundError):
        return made  # it was let go: `data vacuum` keeps versions for some days only
    return replace(
        made, before=before, since=_since(catalog.history(name, pointer), held.snapshot, version.snapshot_id)
    )


def _since(history: list[SnapshotInfo], before: int | None, now: int | None) -> tuple[Commit, ...] | None:
    """The snapshots from one to another, by their parents; None where one of them was let go."""
    known = {info.snapshot_id: info for info in history}
    made = []
    while now != before:
        if now is None or now not in known:
            return None
        info = known[now]
        made.append(Commit(ChangeKind(info.kind) if info.kind else None, info.batches))
        now = info.parent_id
    return tuple(made)


# -- what goes out -------------------------------------------------------------------------------------------------


def _load(
    services: Services, seen: Reading, asked: DeliveredTable, table: Seen, step: Step, *, by_key: bool
) -> TableLoad:
    """The load of a step; where rows are as they should be, it has none, and sees to the columns."""
    scan = services.catalog.scan(asked.table, seen.pointers[asked.table])
    columns = delivered_columns(table.columns)
    key = table.row_key
    if step.what is What.KEYS:
        sides = {OLD: replace(scan, files=step.old), NEW: replace(scan, files=step.files)}
        if by_key and not _asks(services, has_equal_keys(key), sides):
            return TableLoad(
                asked.into, columns, _rows(services, changed_rows(key, columns.names), sides),
                WriteMode.UPSERT, key, gone=_rows(services, gone_keys(key), sides), mirror=True, options=asked.options,
            )  # fmt: skip
        step = Step(What.FRESH, "", files=table.files)
    fresh = step.what is What.FRESH
    write = WriteMode.REPLACE if fresh else WriteMode.APPEND
    rows = _rows(services, f"SELECT {quote_all(columns.names)} FROM t", {"t": replace(scan, files=step.files)})  # noqa: S608
    known_key = key if table.write is not WriteMode.APPEND else ()
    return TableLoad(
        asked.into, columns, rows, write, known_key, batches=step.remove, mirror=True, first=step.first,
        options=asked.options,
    )  # fmt: skip


def _rows(services: Services, sql: str, inputs: Mapping[str, Scan]) -> Iterator[object]:
    """The result's record batches; the query begins when the first is asked for."""
    with services.sql.query(sql, inputs) as reader:
        yield from reader


def _end(loads: Iterable[TableLoad]) -> None:
    """End the queries that a load which has failed did not read to their ends."""
    for load in loads:
        for given in (load.rows, load.gone):
            if isinstance(given, Generator):
                given.close()


def _asks(services: Services, sql: str, inputs: Mapping[str, Scan]) -> bool:
    with services.sql.query(sql, inputs) as reader:
        return bool(next(iter(reader.read_all().to_pylist()[0].values())))
