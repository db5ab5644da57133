"""What is told of figures over time: rows of tables, failing shares and ages of checks, and which are anomalies.

runs, counts of rows, results of checks on record -> a series for each figure, by batch -> plan/anomalies -> pages, API
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tidemill.model.table import TableName
from tidemill.plan.anomalies import Judged, Metric, Point, judge
from tidemill.plan.verdict import on_record
from tidemill.ports.metadata import Tx
from tidemill.ports.runs import ListedRun

#: Of one table: its pipeline's newest runs that are looked at. Of all: of each pipeline at most, and together.
_RUNS = 200
_RUNS_EACH = 60
_RUNS_TOGETHER = 2_000
#: Pipelines that are looked at, those that ran last first.
_PIPELINES = 100
#: Runs that are asked for at once.
_AT_ONCE = 500
#: Results of checks that are looked through, newest first.
_RESULTS = 3_000
#: Tasks that write a table of their name.
_WRITING = ("load.", "build.")


@dataclass(frozen=True, slots=True)
class Series:
    """A figure over time: one value for each batch, in the order of their intervals.

    Args:
        table: of which table.
        check: of which check of it; None: of the table itself.
        metric: what it counts.
        runs: the runs that its values are of.
        judged: the values.
    """

    table: TableName
    check: str | None
    metric: Metric
    runs: tuple[ListedRun, ...]
    judged: tuple[Judged, ...]

    @property
    def newest(self) -> ListedRun:
        """The run that has told the figure last; of an older interval perhaps."""
        return max(self.runs, key=lambda one: one.run.id)


#: A figure's name: table, check or None, metric.
_Key = tuple[TableName, str | None, Metric]


@dataclass(slots=True)
class _Found:
    """Values by figure and batch; the newest run of a batch that has one says it."""

    runs: dict[int, ListedRun]
    values: dict[_Key, dict[int, tuple[ListedRun, float]]] = field(default_factory=dict)

    def add(self, key: _Key, run_id: int, value: float) -> None:
        run = self.runs.get(run_id)
        if run is not None:
            known = self.values.setdefault(key, {})
            if run.run.batch_id not in known or known[run.run.batch_id][0].run.id < run_id:
                known[run.run.batch_id] = (run, value)


def figures(tx: Tx, table: TableName | None = None, sees: Callable[[str], bool] = lambda _: True) -> list[Series]:
    """The figures of a table, or of all whose pipelines `sees` lets through, by table and check.

    Looked at are the newest 200 runs of the table's pipeline; of all, the newest 60 of each of the 100 pipelines that
    ran last, and 2,000 together.
    """
    looked_at = set(_run_ids(tx, table, sees))
    counts, results = tx.runs.row_counts(looked_at), tx.checks.recent(table=table, limit=_RESULTS)
    found = _Found(_runs(tx, looked_at & {*counts, *(one.run_id for one in results)}))
    for run_id, counted in counts.items():
        for task, rows in counted.items():
            if task.startswith(_WRITING):
                name = TableName(found.runs[run_id].pipeline, task.partition(".")[2])
                if table in (None, name):
                    found.add((name, None, Metric.ROWS), run_id, rows)
    # The newest first: of a check that was made again after a rebase, what it found then counts.
    told: set[tuple[int, TableName, str]] = set()
    for one in results:
        if (key := (one.run_id, one.table, one.name)) in told:
            continue
        told.add(key)
        value = on_record(one.rows, one.failed, one.observed, one.expected) if one.error is None else None
        if value is not None:
            found.add((one.table, one.name, value[0]), one.run_id, value[1])
    made = [_series(key, values.values()) for key, values in found.values.items()]
    return sorted(made, key=lambda one: (one.table, one.check or "", one.metric))


def anomalies(series: Iterable[Series]) -> list[dict[str, Any]]:
    """Values that are anomalies, of the newest run first; `newest`: the last run that has told the figure told this."""
    found = [
        {**_of(one), "newest": run.run.id == one.newest.run.id, **_value_facts(run, judged)}
        for one in series
        for run, judged in zip(one.runs, one.judged, strict=True)
        if judged.anomalous
    ]
    return sorted(found, key=lambda one: (-one["run_id"], one["table"], one["check"] or ""))


def series_facts(one: Series) -> dict[str, Any]:
    """A figure with all its values."""
    values = [_value_facts(run, judged) for run, judged in zip(one.runs, one.judged, strict=True)]
    return {**_of(one), "values": values}


def _run_ids(tx: Tx, table: TableName | None, sees: Callable[[str], bool]) -> Iterable[int]:
    if table is not None:
        return [run_id for run_id, _ in tx.runs.strips([table.namespace], _RUNS).get(table.namespace, ())]
    ran = [one.pipeline for one in tx.runs.listed(limit=_RUNS)]
    known = [record.name for record in tx.definitions.pipelines()]
    names = [name for name in dict.fromkeys((*ran, *known)) if sees(name)][:_PIPELINES]
    each = min(_RUNS_EACH, _RUNS_TOGETHER // max(1, len(names)))
    return [run_id for runs in tx.runs.strips(names, each).values() for run_id, _ in runs]


def _runs(tx: Tx, run_ids: Iterable[int]) -> dict[int, ListedRun]:
    ids = sorted(run_ids)
    found = (tx.runs.listed(run_ids=ids[place : place + _AT_ONCE]) for place in range(0, len(ids), _AT_ONCE))
    return {one.run.id: one for some in found for one in some}


def _series(key: _Key, values: Iterable[tuple[ListedRun, float]]) -> Series:
    ordered = sorted(values, key=lambda one: (_moment(one[0]), one[0].run.batch_id))
    table, check, metric = key
    points = [Point(_moment(run), value) for run, value in ordered]
    return Series(table, check, metric, tuple(run for run, _ in ordered), tuple(judge(points, metric)))


def _moment(run: ListedRun) -> Any:
    return run.interval.start if run.interval is not None else run.run.created_at


def _of(one: Series) -> dict[str, Any]:
    return {"table": str(one.table), "check": one.check, "metric": one.metric.value}


def _value_facts(run: ListedRun, judged: Judged) -> dict[str, Any]:
    return {
        "at": judged.point.at, "when": str(run.interval or run.run_key), "pipeline": run.pipeline,
        "run_id": run.run.id, "batch_id": run.run.batch_id, "value": judged.point.value,
        "usual": judged.usual, "low": judged.low, "high": judged.high, "score": judged.score,
        "anomalous": judged.anomalous,
    }  # fmt: skip
