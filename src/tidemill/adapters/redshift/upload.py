"""Rows as files in the bucket, cut so that each slice of the cluster has as much to read; a manifest lists them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tidemill.adapters.redshift.encoding import encoded, measured
from tidemill.model.redshift import Form
from tidemill.model.table import Schema
from tidemill.ports.files import Files

#: Below so many bytes of rows one file is quicker than several.
WORTH_CUTTING = 1 << 20
#: Bytes of rows that are held for each slice, and then become a file for each.
_HELD = 32 << 20
#: The same for all slices together.
_MOST = 256 << 20
_PACKED = (Form.JSON, Form.JSON_PATHS, Form.CSV)
_ENDINGS = {
    Form.JSON: "json.gz", Form.JSON_PATHS: "json.gz", Form.CSV: "csv.gz", Form.AVRO: "avro", Form.PARQUET: "parquet",
}  # fmt: skip


@dataclass
class Upload:
    """Files of the rows for one table.

    Args:
        files: the bucket.
        folder: where below it.
        columns: of the rows.
        form: of the files.
        slices: of the cluster.
        null: the text of null in CSV.
    """

    files: Files
    folder: str
    columns: Schema
    form: Form
    slices: int
    null: str
    rows: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    _listed: list[tuple[str, int]] = field(default_factory=list)

    def run(self, batches: Iterable[Any]) -> None:
        """Upload all rows.

        Raises:
            DataError: a value that no column of Redshift's holds. Unreachable: the bucket does not answer.
        """
        self.lengths = dict.fromkeys(self.columns.names, 0)
        held: list[Any] = []
        size = 0
        for batch in batches:
            for name, length in measured(self.columns, batch).items():
                self.lengths[name] = max(self.lengths.get(name, 0), length)
            held.append(batch)
            size += batch.nbytes
            if size >= min(_HELD * self.slices, _MOST):
                self._write(held, self.slices)
                held, size = [], 0
        # One file for each slice, or the cluster waits for the slice that has two.
        self._write(held, self.slices if size >= WORTH_CUTTING or self._listed else 1)

    def _write(self, held: list[Any], pieces: int) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(held).combine_chunks() if held else None
        total = 0 if table is None else table.num_rows
        for start, end in _cuts(total, min(pieces, total)):
            assert table is not None
            (batch,) = table.slice(start, end - start).to_batches()
            content = encoded(self.columns, batch, self.rows, self.form, self.null)
            self.rows += batch.num_rows
            path = f"{self.folder}/{len(self._listed):05d}.{_ENDINGS[self.form]}"
            packed = _packed(content) if self.form in _PACKED else content
            with self.files.create(path) as stream:
                stream.write(packed)
            self._listed.append((path, len(packed)))

    def manifest(self) -> str | None:
        """Write the manifest; its address. None: there are no rows, and COPY would find no file."""
        if not self._listed:
            return None
        entries = [
            {"url": self.files.url(path), "mandatory": True, "meta": {"content_length": size}}
            for path, size in self._listed
        ]
        path = f"{self.folder}/manifest.json"
        with self.files.create(path) as stream:
            stream.write(json.dumps({"entries": entries}).encode())
        return self.files.url(path)

    def paths(self) -> str | None:
        """Write the JSONPaths file; its address. None: the form has none."""
        if self.form is not Form.JSON_PATHS or not self._listed:
            return None
        found = [f"$[{place}]" for place in range(len(self.columns) + 1)]
        path = f"{self.folder}/paths.json"
        with self.files.create(path) as stream:
            stream.write(json.dumps({"jsonpaths": found}).encode())
        return self.files.url(path)


def _cuts(rows: int, pieces: int) -> Iterator[tuple[int, int]]:
    for piece in range(pieces):
        yield rows * piece // pieces, rows * (piece + 1) // pieces


def _packed(content: bytes) -> bytes:
    from isal import igzip

    # No name and no time: equal rows make equal files.
    return bytes(igzip.compress(content, 1, mtime=0))
