"""Port `destination` on Amazon Redshift: files in a bucket, COPY into a stage, then one short transaction.

    rows -> files, manifest -> COPY -> stage -> BEGIN; LOCK positions; delete, insert; position; COMMIT

Only the last part touches what others see, so a slow COPY holds no lock, and whoever dies before the commit leaves
files and nothing else. The lock comes first in the transaction: Redshift shows a transaction the database as of its
first statement, so a position that is read behind a lock that was waited for must not have an older view.
"""
# ruff: noqa: S608 - names are quoted, texts are literals

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from tidemill.adapters.redshift.connection import Cluster, opened
from tidemill.adapters.redshift.refusals import refused_rows
from tidemill.adapters.redshift.schemas import RedshiftSchemas
from tidemill.adapters.redshift.upload import Upload
from tidemill.model.errors import Conflict, ContractError, DataError, DefinitionError, TidemillError
from tidemill.model.redshift import Copying, Form, Layout
from tidemill.model.table import BATCH_ID, Schema, WriteMode, split_name
from tidemill.plan import redshift as sql
from tidemill.plan import redshift_stage as staging
from tidemill.plan.landing import POSITIONS, any_row, not_ours, quoted_name, spelt
from tidemill.ports.destination import Load, MirrorLost, TableLoad, may_change
from tidemill.ports.files import Files

#: Rows that COPY may refuse until it gives up: so many are told at once, and none is loaded.
_ERRORS = 10


@dataclass(frozen=True, slots=True)
class _Staged:
    """Rows that wait in a stage."""

    stage: str
    columns: list[staging.Staged]
    lengths: Mapping[str, int]


class RedshiftDestination:
    """See the port.

    Args:
        parts: what the driver takes: host, port, user, password, database ...
        files: the place in a bucket where files wait for COPY.
        copying: how COPY reads them.
    """

    #: Whether single rows can be changed by their keys.
    by_key = True

    def __init__(
        self,
        parts: Mapping[str, Any],
        files: Files,
        copying: Copying | None = None,
    ) -> None:
        self._parts = parts
        self._files = files
        self._copying = copying or Copying()

    def position(self, source: str) -> str | None:
        """How far a source has come."""
        with opened(self._parts) as cluster:
            cluster.run(sql.CREATE_POSITIONS)
            return _position(cluster, source)

    def load(self, load: Load) -> int:
        """Load tables in one transaction."""
        folder = f"{_folder(load.source)}/{uuid.uuid4().hex}"
        with ExitStack() as stack:
            if not self._copying.keep:
                stack.callback(self._remove, folder)
            cluster = stack.enter_context(opened(self._parts))
            cluster.run(sql.CREATE_POSITIONS)
            _must_be_at(cluster, load)
            slices = self._copying.slices or _slices(cluster)
            waiting = [
                self._stage(cluster, table, f"{folder}/{number}", f"_tidemill_stage_{number}", slices)
                for number, table in enumerate(load.tables)
            ]
            gone = [
                self._stage_gone(cluster, table, f"{folder}/gone{number}", f"_tidemill_gone_{number}", slices)
                for number, table in enumerate(load.tables)
            ]
            for table, rows in zip(load.tables, waiting, strict=True):
                _widen(cluster, table, rows)
            entered = self._enter(cluster, load, waiting, gone)
        if not self._copying.keep:
            # Whoever else loads from the same position has lost: what is left of all is rubbish.
            self._remove(_folder(load.source))
        return entered

    def schemas(self) -> RedshiftSchemas:
        """Its tables, for revisions."""
        return RedshiftSchemas(self._parts)

    def close(self) -> None:
        """Nothing is open between two calls."""

    def external_schema(self, name: str, database: str, region: str | None = None) -> None:
        """Show the tables that a database of the Glue catalog registers, the lake's say, as a schema in Redshift."""
        with opened(self._parts) as cluster:
            cluster.run(sql.external_schema(name, database, self._copying.role, region))

    # -- before the transaction

    def _stage(self, cluster: Cluster, table: TableLoad, folder: str, stage: str, slices: int) -> _Staged:
        """Upload rows and COPY them into a stage."""
        null = f"_null_{uuid.uuid4().hex}"
        upload = Upload(self._files, folder, table.columns, self._copying.form, slices, null)
        upload.run(table.rows)
        columns = staging.staged(table.columns, self._copying.form, upload.lengths)
        cluster.run(staging.create_stage(stage, columns))
        manifest = upload.manifest()
        if manifest is not None:
            errors = 0 if self._copying.form is Form.PARQUET else _ERRORS
            statement = sql.copy_statement(
                stage, manifest, self._copying, null=null, errors=errors, paths=upload.paths()
            )
            self._copy(cluster, table, statement)
            found = cluster.rows(f"SELECT count(*) FROM {stage}")[0][0]
            if found != upload.rows:
                raise refused_rows(cluster, table, upload.rows - found)
        return _Staged(stage, columns, upload.lengths)

    def _copy(self, cluster: Cluster, table: TableLoad, statement: str) -> None:
        from tidemill.adapters.redshift.connection import translated

        try:
            cluster.run(statement)
        except Exception as error:
            told = error if isinstance(error, TidemillError) else translated(error)
            if not isinstance(told, DataError):
                raise told from None
            raise refused_rows(cluster, table, None, told) from None

    def _stage_gone(self, cluster: Cluster, table: TableLoad, folder: str, stage: str, slices: int) -> _Staged | None:
        rows = table.gone
        if not rows:
            return None
        only = Schema(tuple(table.columns[name] for name in table.key))
        return self._stage(cluster, replace(table, columns=only, rows=rows), folder, stage, slices)

    # -- the transaction

    def _enter(self, cluster: Cluster, load: Load, waiting: Sequence[_Staged], gone: Sequence[_Staged | None]) -> int:
        cluster.begin()
        try:
            cluster.run(f"LOCK {POSITIONS}")
            _must_be_at(cluster, load)
            rows = 0
            for table, staged, removed in zip(load.tables, waiting, gone, strict=True):
                rows += self._enter_table(cluster, table, staged, removed)
            _move(cluster, load)
            cluster.commit()
        except BaseException:
            cluster.roll_back()
            raise
        return rows

    def _enter_table(self, cluster: Cluster, table: TableLoad, staged: _Staged, gone: _Staged | None) -> int:
        have = _columns(cluster, table.table)
        made = self._make(cluster, table, staged, have)
        have = {} if made else have
        names, key = spelt(have, table.columns.names), spelt(have, table.key)
        batches = table.batches
        if batches:
            cluster.run(staging.without_batches(table.table, batches, spelt(have, [BATCH_ID])[0]))
        if gone is not None:
            cluster.run(staging.without_keys(table.table, gone.stage, key, gone.columns))
        if table.write is WriteMode.UPSERT:
            order = None if table.order is None else spelt(have, [table.order])[0]
            return _upsert(cluster, table, staged, names, key, order)
        if table.write not in (WriteMode.APPEND, WriteMode.REPLACE):
            raise DefinitionError(
                f"{table.table} is written by {table.write}, which a destination does not know.",
                hint="append, upsert or replace",
            )
        for statement in staging.entering(table.table, staged.stage, names, staged.columns, table.write):
            entered = cluster.run(statement)
        return entered

    def _make(self, cluster: Cluster, table: TableLoad, staged: _Staged, have: Mapping[str, sql.Have]) -> bool:
        """Make the table, or make it fit; whether it was made."""
        mirror = table.mirror
        if not have and mirror and table.write is not WriteMode.REPLACE:
            raise MirrorLost(table.table)
        if have and table.first:
            _must_be_empty(cluster, table.table)
        layout = Layout.of(table.table, table.options)
        new = sql.creating(table.table, table.columns, staged.lengths, table.key, layout)
        if not have:
            statements = new
        else:
            try:
                statements = sql.fitting(table.table, have, table.columns, staged.lengths).within
            except ContractError:
                if not (mirror and table.write is WriteMode.REPLACE):
                    raise
                have, statements = {}, [f"DROP TABLE {quoted_name(table.table)}", *new]
        may_change(table.kept, table.table, statements)
        for statement in statements:
            cluster.run(statement)
        return not have

    def _remove(self, folder: str) -> None:
        """Remove files; what cannot be removed now is removed after the next load."""
        try:
            for found in list(self._files.list(f"{folder}/")):
                self._files.delete(found.path)
        except (TidemillError, OSError):
            return


def _folder(source: str) -> str:
    """Where files of a source wait: a name of any text, without its signs."""
    return sha256(source.encode()).hexdigest()[:24]


def _position(cluster: Cluster, source: str) -> str | None:
    found = cluster.rows(f"SELECT position FROM {POSITIONS} WHERE source = {sql.literal(source)}")
    return found[0][0] if found else None


def _must_be_at(cluster: Cluster, load: Load) -> None:
    found = _position(cluster, load.source)
    if found != load.before:
        raise Conflict(f'"{load.source}" is at {found} in Redshift, not at {load.before}.')


def _move(cluster: Cluster, load: Load) -> None:
    source, after = sql.literal(load.source), sql.literal(load.after)
    # Nothing enforces the key: who has the lock looks, and nobody else writes meanwhile.
    cluster.run(f"DELETE FROM {POSITIONS} WHERE source = {source}")
    cluster.run(f"INSERT INTO {POSITIONS} (source, position, moved_at) VALUES ({source}, {after}, sysdate)")


def _slices(cluster: Cluster) -> int:
    """How many slices the cluster has; Serverless does not tell, and two files at a time are never wrong."""
    from tidemill.adapters.redshift.connection import translated

    try:
        found = cluster.rows("SELECT count(*) FROM stv_slices")[0][0]
    except Exception as error:
        told = error if isinstance(error, TidemillError) else translated(error)
        if isinstance(told, DataError):
            return 2
        raise told from None
    return max(int(found), 1)


def _columns(cluster: Cluster, table: str) -> dict[str, sql.Have]:
    schema, name = split_name(table)
    where = "current_schema()" if schema is None else sql.literal(schema.lower())
    found = cluster.rows(sql.COLUMNS.format(where, sql.literal(name.lower())))
    return {row[0]: sql.Have(row[1], str(row[2]).upper() != "NO", bool(row[3]) or bool(row[4])) for row in found}


def _widen(cluster: Cluster, table: TableLoad, staged: _Staged) -> None:
    """Lengthen texts: Redshift does it outside of transactions only. It harms nobody if the load is never done."""
    have = _columns(cluster, table.table)
    if not have:
        return
    try:
        statements = sql.fitting(table.table, have, table.columns, staged.lengths).before
    except ContractError:
        if table.mirror and table.write is WriteMode.REPLACE:
            return  # it is made anew
        raise
    may_change(table.kept, table.table, statements)
    for statement in statements:
        cluster.run(statement)


def _upsert(
    cluster: Cluster, table: TableLoad, staged: _Staged, names: Sequence[str], key: Sequence[str], order: str | None
) -> int:
    staged_key = [
        column for name, column in zip(names, staged.columns, strict=True) if name.lower() in {k.lower() for k in key}
    ]
    lacking = cluster.rows(staging.without_key(staged.stage, staged_key))[0][0]
    if lacking:
        raise ContractError(f"{lacking} rows for {table.table} have no {', '.join(key)}.")
    cluster.run(staging.newest(staged.stage, names, staged.columns, key, order))
    cluster.run(staging.superseded(table.table, staged.stage, key, order))
    entered = cluster.run(staging.upserted(table.table, staged.stage, names, key))
    doubled = cluster.rows(staging.doubled(table.table, staged.stage, key))[0][0]
    if doubled:
        raise ContractError(
            f"{doubled} keys ({', '.join(key)}) are in {table.table} more than once, and Redshift enforces no key.",
            hint="somebody else has written to the table: remove the doubles there",
        )
    return entered


def _must_be_empty(cluster: Cluster, table: str) -> None:
    if cluster.rows(any_row(table)):
        raise not_ours(table, "Redshift")
