"""Rule 7: an upsert or history table is a function of its input, whatever the order in which batches came.

Any sequence of runs, re-runs and reverts, in any order of intervals, must leave what a naive program computes from the
final set of batches. The columnar queries run in DuckDB over small "files", of which only the named ones are replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.model.singer import MARK, VERSION
from tidemill.model.table import BATCH_ID, LOADED_AT
from tidemill.plan.history import IS_CURRENT, VALID_FROM, VALID_TO, History
from tidemill.plan.merge import FILE, KeyedWrite, Query, Upsert
from tidemill.plan.row_versions import Activation, Ended, Marks
from tidemill.plan.sql import quote_all

KEY = ("k", "part two")
BUSINESS = (*KEY, "at", "v", "w")
UPSERT = Upsert(KEY, (*BUSINESS, BATCH_ID, LOADED_AT))
VERSIONED = Upsert(KEY, (*BUSINESS, VERSION, BATCH_ID, LOADED_AT))
MARKED = Upsert(KEY, (*BUSINESS, VERSION, MARK, BATCH_ID, LOADED_AT), marks=Marks({}))
HISTORY = {
    declared: History(
        KEY,
        (*BUSINESS, "sk", VALID_FROM, VALID_TO, IS_CURRENT, BATCH_ID, LOADED_AT),
        order="at" if declared else None,
        surrogate_key="sk",
    )
    for declared in (False, True)
}
TYPES = {
    "k": "INTEGER", "part two": "VARCHAR", "at": "BIGINT", "v": "INTEGER", "w": "INTEGER[]", "sk": "VARCHAR",
    VALID_FROM: "BIGINT", VALID_TO: "BIGINT", IS_CURRENT: "BOOLEAN", BATCH_ID: "BIGINT", LOADED_AT: "BIGINT",
    "_order": "BIGINT", "_row": "BIGINT", "_deleted": "BOOLEAN", VERSION: "BIGINT",
    MARK: "TIMESTAMPTZ",
}  # fmt: skip
#: One database for all examples: opening one takes 11 ms.
DB = duckdb.connect(config={"threads": 1})
INPUT_COLUMNS = (*BUSINESS, VERSION, BATCH_ID, LOADED_AT, "_order", "_row", "_deleted")


@dataclass
class Lake:
    """A table and its input table, kept as the flow keeps them: files are replaced whole."""

    write: KeyedWrite
    declared: bool
    db: duckdb.DuckDBPyConnection
    files: Any = field(default_factory=count)
    clock: Any = field(default_factory=count)
    ids: dict[int, int] = field(default_factory=dict)
    batches: dict[int, list[tuple[Any, ...]]] = field(default_factory=dict)
    activated: dict[int, int] = field(default_factory=dict)
    incremental: int = 0

    def __post_init__(self) -> None:
        inputs = ", ".join(f'"{c}" {TYPES[c]}' for c in INPUT_COLUMNS)
        for name in ("input", "incoming", "before"):
            self.db.execute(f"CREATE OR REPLACE TABLE {name} ({inputs})")
        columns = ", ".join(f'"{c}" {TYPES[c]}' for c in self.write.columns)
        self.db.execute(f"CREATE OR REPLACE TABLE target ({columns}, {FILE} INT)")

    def run(self, interval: int, rows: list[dict[str, Any]], activates: int | None = None) -> None:
        """Run an interval, or run it again: its rows replace those that it had."""
        batch = self.ids.setdefault(interval, len(self.ids) + 1)
        self._begin(batch, activates)
        self.batches[interval] = []
        for position, row in enumerate(rows):
            order = row["at"] if self.declared else interval * 100
            values = (
                *(row[c] for c in BUSINESS),
                row.get(VERSION),
                batch,
                next(self.clock),
                order,
                position,
                row["deleted"],
            )
            self.batches[interval].append(values)
        self._insert("incoming", self.batches[interval])
        self.db.execute("INSERT INTO input FROM incoming")
        self.db.execute(f"CREATE OR REPLACE VIEW others AS FROM input WHERE {BATCH_ID} <> {batch}")
        again = self.db.execute("SELECT count(*) FROM before").fetchone() != (0,)
        if not again and self.db.execute(self.write.is_newest().sql).fetchone() == (True,):
            self.incremental += 1
            self._replace(self.write.newest_files(), self.write.newest())
        else:
            self._recompute()

    def revert(self, interval: int) -> None:
        """Undo an interval."""
        if interval in self.ids:
            self._begin(self.ids[interval])
            self.batches.pop(interval, None)
            self._recompute()

    def _begin(self, batch: int, activates: int | None = None) -> None:
        had = set(self.activated)
        self.activated.pop(batch, None)
        if activates is not None:
            self.activated[batch] = activates
        self.sweeps = batch in self.activated or batch in had
        found = [Activation(b, v, moment(b)) for b, v in sorted(self.activated.items())]
        self.write = replace(self.write, ended=Ended.by(found))
        if self.write.marks is not None:
            known = {(row[6], row[5]) for rows in self.batches.values() for row in rows} | {(batch, 1), (batch, 2)}
            self.write = replace(self.write, marks=Marks.of([(b, v) for b, v in known if v is not None], found))
        self.db.execute(f"CREATE OR REPLACE TABLE before AS FROM input WHERE {BATCH_ID} = {batch}")
        self.db.execute(f"DELETE FROM input WHERE {BATCH_ID} = {batch}; DELETE FROM incoming")

    def _recompute(self) -> None:
        touched = ("input", "before", "incoming") if self.sweeps else ("before", "incoming")
        self._replace(self.write.recompute_files(touched), self.write.recompute(touched))

    def _replace(self, files: Query, content: Query) -> None:
        named = [row[0] for row in self.db.execute(files.sql).fetchall()]
        self.db.execute(f"CREATE OR REPLACE TEMP TABLE rewritten AS FROM target WHERE list_contains({named}, {FILE})")
        rows = self.db.execute(content.sql).fetchall()
        self.db.execute(f"DELETE FROM target WHERE list_contains({named}, {FILE})")
        first = next(self.files)  # files of two rows each, so that some are left alone
        self._insert("target", [(*row, first * 1000 + at // 2) for at, row in enumerate(rows)])

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            one = "(" + ", ".join("?" * len(rows[0])) + ")"
            self.db.execute(f"INSERT INTO {table} VALUES {', '.join([one] * len(rows))}", [v for r in rows for v in r])

    def table(self) -> list[dict[str, Any]]:
        columns = [c for c in self.write.columns if c not in (LOADED_AT, "sk")]
        rows = self.db.execute(f"SELECT {quote_all(columns)} FROM target").fetchall()
        return sorted((dict(zip(columns, row, strict=True)) for row in rows), key=repr)

    def input_rows(self) -> list[dict[str, Any]]:
        made = [dict(zip(INPUT_COLUMNS, r, strict=True)) for rows in self.batches.values() for r in rows]
        placed = [r for r in made if all(r[c] is not None for c in (*KEY, "_order"))]
        return sorted(placed, key=lambda r: (r["_order"], r[BATCH_ID], r["_row"]))


def by_key(rows: list[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    keys: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        keys.setdefault(tuple(row[k] for k in KEY), []).append(row)
    return keys


def naive_upsert(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = [of_key[-1] for of_key in by_key(rows).values()]
    made = [{c: r[c] for c in (*BUSINESS, BATCH_ID)} for r in last if r["_deleted"] is not True]
    return sorted(made, key=repr)


def naive_versioned(rows: list[dict[str, Any]], activated: dict[int, int]) -> list[dict[str, Any]]:
    def ended(row: dict[str, Any]) -> bool:
        return any(b > row[BATCH_ID] and row[VERSION] not in (None, v) for b, v in activated.items())

    winners = [of_key[-1] for of_key in by_key(rows).values()]
    made = [{c: r[c] for c in (*BUSINESS, VERSION, BATCH_ID)} for r in winners if not (r["_deleted"] or ended(r))]
    return sorted(made, key=repr)


def naive_marked(rows: list[dict[str, Any]], activated: dict[int, int]) -> list[dict[str, Any]]:
    def mark(row: dict[str, Any]) -> datetime | None:
        ends = [b for b in sorted(activated) if b > row[BATCH_ID] and activated[b] != row[VERSION]]
        return moment(ends[0]) if ends and row[VERSION] is not None else None

    winners = [of_key[-1] for of_key in by_key(rows).values()]
    kept = [r for r in winners if not r["_deleted"]]
    return sorted(
        ({c: r[c] for c in (*BUSINESS, VERSION)} | {MARK: mark(r), BATCH_ID: r[BATCH_ID]} for r in kept), key=repr
    )


def moment(batch: int) -> datetime:
    return datetime(2026, 1, batch, tzinfo=UTC)


def naive_history(rows: list[dict[str, Any]], declared: bool) -> list[dict[str, Any]]:
    attributes = ("v", "w") if declared else ("at", "v", "w")
    made = []
    for of_key in by_key(rows).values():
        last_of_order = list({r["_order"]: r for r in of_key}.values())
        open_version: dict[str, Any] | None = None
        for row in last_of_order:
            gone = row["_deleted"] is True
            same = open_version is not None and all(open_version[a] == row[a] for a in attributes)
            if open_version is not None and (gone or not same):
                open_version[VALID_TO], open_version[IS_CURRENT] = row["_order"], False
            if gone:
                open_version = None
            elif open_version is None or not same:
                open_version = {c: row[c] for c in BUSINESS} | {
                    VALID_FROM: row["_order"], VALID_TO: None, IS_CURRENT: True, BATCH_ID: row[BATCH_ID],
                }  # fmt: skip
                made.append(open_version)
    return sorted(made, key=repr)


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from([1, 2, 3, None]),
            "part two": st.sampled_from(["a", "a", "b", None]),
            "at": st.sampled_from([5, 10, 20, 20, 30, None]),
            "v": st.sampled_from([1, 2, None]),
            "w": st.sampled_from([[1], [None], None]),
            "deleted": st.sampled_from([False, False, None, True]),
        }
    ),
    max_size=6,
)
INTERVALS = st.integers(1, 5)
STEPS = st.lists(
    st.tuples(st.just("run"), INTERVALS, ROWS) | st.tuples(st.just("revert"), INTERVALS, st.just([])),
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize("declared", [False, True], ids=["interval order", "declared order"])
@settings(max_examples=few(30), deadline=None)
@given(steps=STEPS)
def test_rule_7_upsert_is_what_the_final_set_of_batches_says(declared: bool, steps: list[Any]) -> None:
    lake = Lake(UPSERT, declared, DB)
    for action, interval, rows in steps:
        lake.run(interval, rows) if action == "run" else lake.revert(interval)
        assert lake.table() == naive_upsert(lake.input_rows())


@pytest.mark.parametrize("declared", [False, True], ids=["interval order", "declared order"])
@settings(max_examples=few(30), deadline=None)
@given(steps=STEPS)
def test_rule_7_history_is_what_the_final_set_of_batches_says(declared: bool, steps: list[Any]) -> None:
    lake = Lake(HISTORY[declared], declared, DB)
    for action, interval, rows in steps:
        lake.run(interval, rows) if action == "run" else lake.revert(interval)
        assert lake.table() == naive_history(lake.input_rows(), declared)


VERSIONS = st.sampled_from([None, 1, 2])


ACTIVATING = st.lists(
    st.tuples(st.just("run"), INTERVALS, ROWS, VERSIONS, VERSIONS)
    | st.tuples(st.just("revert"), INTERVALS, st.just([]), st.none(), st.none()),
    min_size=1,
    max_size=7,
)


@settings(max_examples=few(40), deadline=None)
@given(steps=ACTIVATING)
def test_rule_7_activated_versions_are_those_of_the_final_set_of_batches(steps: list[Any]) -> None:
    """Rows of other versions end where a batch activates one, and are back where that batch is reverted."""
    lake = Lake(VERSIONED, False, DB)
    for action, interval, rows, version, activates in steps:
        named = [{**row, VERSION: version} for row in rows]
        lake.run(interval, named, activates) if action == "run" else lake.revert(interval)
        assert lake.table() == naive_versioned(lake.input_rows(), lake.activated)


@settings(max_examples=few(40), deadline=None)
@given(steps=ACTIVATING)
def test_rule_7_marks_of_versions_are_those_of_the_final_set_of_batches(steps: list[Any]) -> None:
    """Rows of other versions stay, marked by the first batch that ended them; one that is reverted leaves none."""
    lake = Lake(MARKED, False, DB)
    for action, interval, rows, version, activates in steps:
        named = [{**row, VERSION: version} for row in rows]
        lake.run(interval, named, activates) if action == "run" else lake.revert(interval)
        assert lake.table() == naive_marked(lake.input_rows(), lake.activated)


@pytest.mark.parametrize("write", [UPSERT, HISTORY[False]], ids=["upsert", "history"])
@settings(max_examples=few(25), deadline=None)
@given(batches=st.lists(ROWS, min_size=1, max_size=5))
def test_rule_7_newest_equals_recompute(write: KeyedWrite, batches: list[Any]) -> None:
    """Intervals in order are applied incrementally, every one of them; computing all keys anew changes nothing."""
    lake = Lake(write, False, DB)
    for interval, rows in enumerate(batches):
        lake.run(interval, rows)
    assert lake.incremental == len(batches)
    before, keys = lake.table(), "SELECT sk FROM target ORDER BY 1"
    surrogates = lake.db.execute(keys).fetchall() if write is not UPSERT else []
    lake.db.execute("CREATE OR REPLACE TABLE before AS FROM input; DELETE FROM incoming")
    lake._recompute()
    assert lake.table() == before
    if write is not UPSERT:
        assert lake.db.execute(keys).fetchall() == surrogates
        assert len(set(surrogates)) == len(surrogates)
