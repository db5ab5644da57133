"""Reads data files back as the table's rows, by field ids: for compaction, and for re-writing under other ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.schema import Schema as IcebergSchema

from tidemill.adapters.iceberg.arrow import BY_ID, arrow_schema, conform
from tidemill.adapters.iceberg.store import Store

_BATCH_ROWS = 65_536


def read_rows(store: Store, schema: IcebergSchema, addresses: Iterable[str]) -> Iterator[Any]:
    """The rows of data files as Arrow record batches with the columns of `schema`, file by file, in order."""
    wanted = arrow_schema(schema)
    for address in addresses:
        with store.files.open(store.files.relative(address)) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=_BATCH_ROWS):
                yield conform(batch, wanted, BY_ID)
