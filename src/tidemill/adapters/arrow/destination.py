"""Port `destination` as files below a root, a folder or a bucket: data files that never change, and a manifest.

    <schema>/<table>/<partition>/000012-5f3a9c1e-0.parquet      data: what the newest manifest lists
    _tidemill/<source>/manifest-000000000012.json                one for each load; that with the greatest number counts
    _tidemill/<source>/begun-000000000012-5f3a9c1e               a load in the making, or what is left of it

A load writes its data files and then, by one write that only one can win, the next manifest, with the position and the
files of all its tables: that is the moment at which it counts. Files that it no longer lists are removed later.
"""

from __future__ import annotations

import errno
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from tidemill.adapters.arrow.file_formats import RowsWriter, chosen, ending, open_rows
from tidemill.adapters.arrow.partitions import check_partitions, parted
from tidemill.adapters.arrow.types import to_arrow
from tidemill.model.errors import Conflict, DefinitionError, Refused, UnknownName, Unreachable
from tidemill.model.table import BATCH_ID, Partition, WriteMode, split_name
from tidemill.ports.clock import Clock
from tidemill.ports.destination import Load, NoRoom, TableLoad
from tidemill.ports.files import Files

_OWN = "_tidemill"
#: Files that are no longer listed stay so long, for readers that have the older manifest.
GRACE = timedelta(hours=1)
#: Manifests that stay.
_KEPT = 10
#: Rows of a file, and files that are written at the same time.
_MOST_ROWS, _MOST_OPEN = 1_000_000, 50
_OPTIONS = ("format", "compression", "partition")


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What counts. `tables`: by name, what is told of each; `gone`: files that are listed no more, and since when."""

    number: int = 0
    position: str | None = None
    token: str = ""
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)


class FilesDestination:
    """See the port.

    Args:
        files: below which all of it lies.
        clock: the time.
    """

    by_key = False

    def __init__(self, files: Files, clock: Clock) -> None:
        self._files = files
        self._clock = clock

    def position(self, source: str) -> str | None:
        """How far a source has come."""
        return self._newest(_folder(source)).position

    def load(self, load: Load) -> int:
        """Load tables: their data files, then one manifest."""
        for table in load.tables:
            _check(table)
        try:
            return self._load(load)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            place = self._files.url(_folder(load.source)).partition(f"/{_OWN}/")[0]
            raise NoRoom(f"The disk of {place}", error.strerror or error) from None

    def _load(self, load: Load) -> int:
        folder = _folder(load.source)
        found = self._newest(folder)
        if found.position != load.before:
            raise Conflict(f'"{load.source}" is at {found.position}, not at {load.before}.')
        found, begun = self._tidied(folder, found)
        number, token = found.number + 1, uuid.uuid4().hex[:8]
        mark = f"{folder}/begun-{number:012}-{token}"
        with self._files.create(mark):
            pass
        ours = f"{number:06}-{token}-"
        try:
            made, rows = self._written(load, found, replace(found, number=number, token=token), begun)
            self._publish(folder, made)
        except Unreachable:
            raise  # it may count: the next load looks, and tidies up
        except Exception:
            self._discard(ours, [table.table for table in load.tables])
            self._files.delete(mark)
            raise
        self._files.delete(mark)
        return rows

    def close(self) -> None:
        """Nothing is open."""

    def _written(self, load: Load, found: _Manifest, next_: _Manifest, begun: list[str]) -> tuple[_Manifest, int]:
        """Write the data files of all tables; gives the manifest that makes them count, and the number of rows."""
        tables, gone, rows = dict(found.tables), dict(found.gone), 0
        now = self._clock.now().isoformat()
        for table in load.tables:
            before = tables.get(table.table, {}).get("files", [])
            if table.first:
                self._see_empty(table, before, begun)
            removed = [f for f in before if table.write is WriteMode.REPLACE or f["batch"] in table.batches]
            with _Writing(self._files, table, f"{next_.number:06}-{next_.token}") as writing:
                for batch in table.rows:
                    writing.write(batch)
                added = writing.finish()
            rows += sum(f["rows"] for f in added)
            gone |= {f["path"]: now for f in removed}
            tables[table.table] = {
                "columns": {column.name: str(column.type) for column in table.columns},
                "format": writing.kind,
                "files": [*(f for f in before if f not in removed), *added],
            }
        return replace(next_, position=load.after, tables=tables, gone=gone), rows

    def _publish(self, folder: str, made: _Manifest) -> None:
        """The moment at which a load counts, unless somebody else was faster."""
        path = _manifest_path(folder, made.number)
        told = {name: getattr(made, name) for name in ("position", "token", "tables", "gone")}
        try:
            with self._files.create(path) as stream:
                stream.write(json.dumps(told).encode())
        except FileExistsError:
            raise Conflict("Somebody else has loaded these files meanwhile.") from None
        # Numbers of long ago are free again, as old manifests go: such a one does not count.
        if max(self._numbers(folder)) > made.number:
            self._files.delete(path)
            raise Conflict("Others have loaded these files meanwhile.")

    def _numbers(self, folder: str) -> list[int]:
        start = f"{folder}/manifest-"
        return [int(found.path[len(start) :].removesuffix(".json")) for found in self._files.list(start)]

    def _newest(self, folder: str) -> _Manifest:
        while numbers := self._numbers(folder):
            try:
                with self._files.open(_manifest_path(folder, max(numbers))) as stream:
                    return _Manifest(max(numbers), **json.load(stream))
            except FileNotFoundError:
                continue  # many loads have come meanwhile
        return _Manifest()

    # -- what is left over -----------------------------------------------------------------------------------

    def _tidied(self, folder: str, found: _Manifest) -> tuple[_Manifest, list[str]]:
        """Remove what nobody needs any more; gives what is left, and how names of files of other loads begin."""
        now = self._clock.now()
        old = {path for path, since in found.gone.items() if now - datetime.fromisoformat(since) > GRACE}
        for path in old:
            self._files.delete(path)
        for number in self._numbers(folder):
            if number <= found.number - _KEPT:
                self._files.delete(_manifest_path(folder, number))
        begun = []
        start = f"{folder}/begun-"
        for mark in list(self._files.list(start)):
            digits, _, token = mark.path[len(start) :].partition("-")
            begins = f"{int(digits):06}-{token}-"
            begun.append(begins)
            if int(digits) <= found.number:  # it has lost, or has died after it had won
                if token != found.token:
                    self._discard(begins, found.tables)
                self._files.delete(mark.path)
        return replace(found, gone={path: since for path, since in found.gone.items() if path not in old}), begun

    def _discard(self, begins: str, tables: Any) -> None:
        """Remove the data files of a load that does not count."""
        for table in tables:
            for one in list(self._files.list(_data_folder(table) + "/")):
                if one.path.rpartition("/")[2].startswith(begins):
                    self._files.delete(one.path)

    def _see_empty(self, table: TableLoad, before: list[dict[str, Any]], begun: list[str]) -> None:
        known = {one["path"] for one in before}
        for one in self._files.list(_data_folder(table.table) + "/"):
            name = one.path.rpartition("/")[2]
            if one.path not in known and not name.startswith(tuple(begun)):
                raise Refused(
                    f'The folder of "{table.table}" has files that are not of this delivery: {one.path}.',
                    hint="empty it, or deliver into another one by table=",
                )


class _Writing(AbstractContextManager["_Writing"]):
    """Writes the data files of one table; where rows go by their batch, none holds rows of two."""

    def __init__(self, files: Files, table: TableLoad, begins: str) -> None:
        self._files = files
        self._table = table
        self._begins = begins
        self.kind, self._compression = chosen(table.options)
        self._parts = [Partition.parse(text) for text in table.options.get("partition", ())]
        check_partitions(self._parts, table.columns)
        self._schema = to_arrow(table.columns)
        by_batch = table.mirror and not table.key and BATCH_ID in table.columns
        self._keys = [Partition("identity", BATCH_ID)] if by_batch else []
        self._open: dict[tuple[str, int | None], _DataFile] = {}
        self._done: list[dict[str, Any]] = []
        self._number = 0

    def write(self, batch: Any) -> None:
        """Add rows."""
        rows = pa.Table.from_batches([batch]).select(self._schema.names).cast(self._schema)
        for of_batch in self._batches(rows):
            batch_id = of_batch.column(BATCH_ID)[0].as_py() if self._keys and of_batch.num_rows else None
            for folder, some in parted(of_batch, self._parts):
                self._file(folder, batch_id).write(some)
                if self._open[folder, batch_id].rows >= _MOST_ROWS:
                    self._end((folder, batch_id))

    def finish(self) -> list[dict[str, Any]]:
        """Close the files; gives what they are."""
        for key in list(self._open):
            self._end(key)
        return self._done

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        for one in self._open.values():
            # On a full disk a file that is given up cannot even be closed well; what led here is told.
            with suppress(OSError):
                one.forget(kind or RuntimeError, error or RuntimeError(), trace)

    def _batches(self, rows: Any) -> Iterator[Any]:
        if not self._keys:
            yield rows
            return
        for _, some in parted(rows, self._keys):
            yield some

    def _file(self, folder: str, batch_id: int | None) -> _DataFile:
        found = self._open.pop((folder, batch_id), None)
        if found is None:
            if len(self._open) >= _MOST_OPEN:
                self._end(next(iter(self._open)))
            name = f"{self._begins}-{self._number}{ending(self.kind, self._compression)}"
            self._number += 1
            path = f"{_data_folder(self._table.table)}/{folder}{name}"
            found = _DataFile(self._files, path, self.kind, self._compression, self._table)
        self._open[folder, batch_id] = found  # the one that was written last comes last
        return found

    def _end(self, key: tuple[str, int | None]) -> None:
        one = self._open.pop(key)
        one.close()
        self._done.append({"path": one.path, "rows": one.rows, "batch": key[1]})


class _DataFile:
    """One file in the making."""

    def __init__(self, files: Files, path: str, kind: str, compression: str, table: TableLoad) -> None:
        self.path = path
        self.rows = 0
        self._made = files.create(path)
        self._writer: RowsWriter = open_rows(self._made.__enter__(), kind, compression, table.columns)

    def write(self, rows: Any) -> None:
        self._writer.write(rows)
        self.rows += rows.num_rows

    def close(self) -> None:
        self._writer.close()
        self._made.__exit__(None, None, None)

    def forget(self, *error: Any) -> None:
        self._made.__exit__(*error)


def _check(table: TableLoad) -> None:
    split_name(table.table)
    unknown = [name for name in table.options if name not in _OPTIONS]
    if unknown:
        raise UnknownName.of("option of files", unknown[0], _OPTIONS)
    if table.write not in (WriteMode.APPEND, WriteMode.REPLACE) or table.gone:
        raise DefinitionError(
            f"{table.table} is written by {table.write}, which files cannot be.", hint="append or replace"
        )


def _folder(source: str) -> str:
    return "/".join((_OWN, *(_part(part) for part in source.split("/"))))


def _manifest_path(folder: str, number: int) -> str:
    return f"{folder}/manifest-{number:012}.json"


def _data_folder(table: str) -> str:
    """The folder of a table, whatever its name is."""
    return "/".join(_part(part) for part in split_name(table) if part is not None)


def _part(name: str) -> str:
    text = quote(name, safe=" ")
    dotted = set(text) <= {"."} or text.startswith(".") or text == _OWN
    return "%" + text.encode()[:1].hex().upper() + text[1:] if dotted else text
