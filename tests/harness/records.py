"""Values that tests of the metadata store are made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.batch import Batch, BatchKey, Interval, Manifest, Part
from tidemill.model.run import Run
from tidemill.model.table import TableName
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import CheckRecord

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
FLIGHTS = TableName("flights", "departures")
DELAYS = TableName("flights", "delays")


def day(number: int, pipeline: str = "flights") -> BatchKey:
    """The batch key of the `number`th day of 2024."""
    return BatchKey(pipeline, Interval(START + number * DAY, START + (number + 1) * DAY))


def start_run(store: SqlMetadata, clock: Clock, key: BatchKey | None = None, **options: Any) -> tuple[Batch, Run]:
    """Open a batch and start an attempt at it that has a lease for a minute."""
    now = clock.now()
    options = dict[str, Any](holder="here:1:0", lease_until=now + MINUTE) | options
    with store.write() as tx:
        batch = tx.batches.open(key or day(0), now)
        return batch, tx.runs.start(batch.id, now=now, **options)


def manifest(batch_id: int, version: int = 1, **values: Any) -> Manifest:
    """A manifest of two parts."""
    parts = (
        Part("a/1.csv.gz", "flights.csv.gz", "00" * 32, 1000, None, "csv", "gzip"),
        Part("a/2.jsonl.zst", "page-2", "11" * 32, 2000, 17, "jsonl", "zstd"),
    )
    given = dict[str, Any](attempt=1, parts=parts, extracted_at=START, code_version="abc") | values
    return Manifest(batch_id=batch_id, pipeline="flights", source="feed", version=version, **given)


def check_record(run: Run, table: TableName = FLIGHTS, **values: Any) -> CheckRecord:
    """The result of a check that passed."""
    given = dict[str, Any](name="not_null(id)", severity="error", passed=True, at=START) | values
    return CheckRecord(run_id=run.id, batch_id=run.batch_id, table=table, **given)
