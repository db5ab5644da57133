"""`tidemill.sources.cdc`: the changes of a PostgreSQL database as a source, and the tables that follow from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tidemill.authoring.databases import check_connection, check_parallel
from tidemill.authoring.options import names_of
from tidemill.authoring.place import here
from tidemill.model.cdc import COMMITTED_AT, GONE, LSN, NEW_SLOT, OP, SEQUENCE, XID, Cdc, FollowedTable
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.pipeline import InputSpec, Materialized, Scope, TransformSpec
from tidemill.model.table import BATCH_ID, LOADED_AT, PublishMode, TableName, TableSpec, WriteMode
from tidemill.plan.sql import quote, quote_all

if TYPE_CHECKING:
    from tidemill.model.pipeline import SourceSpec

_SLOT = re.compile(r"[a-z0-9_]{1,59}")


def cdc(
    connection: str,
    tables: Iterable[str],
    *,
    slot: str,
    publication: str | None = None,
    key: str | Iterable[str] | Mapping[str, str | Iterable[str]] = "id",
    write: str | Mapping[str, str] = "upsert",
    name: str = "changes",
    max_changes: int = 2_000_000,
    parallel: int = 1,
    chunk_rows: int = 250_000,
) -> Cdc:
    """Changes of tables of a PostgreSQL database, by logical replication: `shop.source(sources.cdc(...))`.

    The first batch has the tables as they are, and makes the slot that gives what is committed from then on; each later
    batch has whole transactions, in the order of their commits. The feed's own table has the transactions; each
    followed table `orders` has its log, `changes__orders`, and unless `write` is "append" the table `orders` that
    follows from it.

    Args:
        connection: the name of a connection, or an address; its user may replicate.
        tables: `schema.table`; without a schema in `public`. Each is called here as there, without the schema.
        slot: the replication slot, which this source alone reads. Another name begins with a new snapshot.
        publication: what the server publishes; left out, it is called as the slot.
        key: the columns that tell a table's rows apart, or a mapping from table to these: its primary key.
        write: "upsert" for the state as it is, "history" for every version, "append" for the log alone; or a mapping
            from table to one of these.
        name: of the feed.
        max_changes: about how many messages a batch takes; transactions stay whole.
        parallel: connections that read the tables of a snapshot at the same time, along their primary keys.
        chunk_rows: rows that one of them reads at a time, if `parallel` is more than one.

    Raises:
        DefinitionError: an argument is wrong.
    """
    check_connection(connection)
    if isinstance(tables, str):
        raise DefinitionError(f"tables={tables!r} is no list.", where=here(), hint=f"tables=[{tables!r}]")
    if not _SLOT.fullmatch(slot) or slot.endswith(NEW_SLOT):
        raise DefinitionError(
            f'"{slot}" cannot name a replication slot here.',
            where=here(),
            hint=f"small letters, digits and _, no more than 59 of them, and no {NEW_SLOT} at its end",
        )
    for option, number in (("max_changes", max_changes), ("parallel", parallel), ("chunk_rows", chunk_rows)):
        if isinstance(number, bool) or number < 1:
            raise DefinitionError(f"{option}={number!r} is no number above zero.", where=here())
    check_parallel(parallel)
    listed = [_whole_name(table) for table in tables]
    if not listed:
        raise DefinitionError("No table is followed.", where=here(), hint='tables=["public.orders"]')
    keys = _by_table(key, listed, "key")
    modes = _by_table(write, listed, "write")
    followed: dict[str, FollowedTable] = {}
    for table in listed:
        mode = names_of(WriteMode, modes.get(table, "upsert"), "write")
        if mode is WriteMode.REPLACE:
            raise DefinitionError(
                'write="replace" would keep the last batch alone.', where=here(), hint='"upsert", "history" or "append"'
            )
        called = re.sub(r"[^A-Za-z0-9_]+", "_", table.partition(".")[2])
        called = f"_{called}" if called[:1].isdigit() else called
        if called in followed:
            raise DefinitionError(
                f'"{followed[called].name}" and "{table}" would both be called "{called}".',
                where=here(),
                hint="follow one of them by another source, with a slot of its own, in another pipeline",
            )
        columns = keys.get(table, "id")
        found = (columns,) if isinstance(columns, str) else tuple(columns)
        followed[called] = FollowedTable(table, called, () if mode is WriteMode.APPEND else found, mode)
    return Cdc(
        connection, tuple(followed.values()), slot, publication or slot, name, max_changes, parallel, chunk_rows, here()
    )


def tables_of(source: SourceSpec, followed: Cdc, publish: PublishMode) -> list[TransformSpec]:
    """The tables that follow from the logs: each reads its log's rows of the batch."""
    pipeline = source.table.name.namespace
    made = []
    for table in followed.tables:
        if table.write is WriteMode.APPEND:
            continue
        log = f"{source.name}__{table.called}"
        spec = TableSpec(
            TableName(pipeline, table.called),
            table.write,
            key=table.key,
            order=COMMITTED_AT,
            publish=publish,
            delete_flag=GONE,
            changes=True,
            doc=f"{table.name} of {followed}",
        )
        left_out = quote_all((LSN, SEQUENCE, XID, BATCH_ID, LOADED_AT))
        sql = f"SELECT * EXCLUDE ({left_out}), {quote(OP)} = 'd' AS {quote(GONE)} FROM {{{{ batch('{log}') }}}}"  # noqa: S608
        made.append(
            TransformSpec(
                spec,
                (InputSpec(log, TableName(pipeline, log), Scope.BATCH),),
                sql=sql,
                materialized=Materialized.INCREMENTAL,
                in_order=(LSN, SEQUENCE),
                place=source.place,
            )
        )
    return made


def _whole_name(table: str) -> str:
    whole = table if "." in table else f"public.{table}"
    if whole.count(".") != 1 or not all(whole.split(".")) or set("*?[") & set(whole):
        raise DefinitionError(f'"{table}" cannot name a table.', where=here(), hint='"public.orders"')
    return whole


def _by_table(given: object, tables: list[str], option: str) -> dict[str, Any]:
    """A value for all tables, or those of a mapping by the tables' whole names."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(tables, given)
    named = {_whole_name(str(table)): value for table, value in given.items()}
    for table in named:
        if table not in tables:
            raise UnknownName.of(f"followed table ({option})", table, tables, where=here())
    return named
