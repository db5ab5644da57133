"""Refs against a model made of dicts: whatever is done in whatever order, both hold the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from harness.examples import few
from harness.records import START
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.errors import Conflict, Refused, UnknownName
from tidemill.model.table import TableName

TABLES = [TableName(namespace, table) for namespace in ("flights", "weather") for table in ("a", "b")]
Pointers = dict[TableName, str]
names = st.sampled_from([MAIN, "one", "two"])
_PROJECTS = count()


class RefsAgainstModel(RuleBasedStateMachine):
    """Each example is a project of its own in one database."""

    open_store: Callable[..., SqlMetadata]
    database: str

    def __init__(self) -> None:
        super().__init__()
        self.store = self.open_store(self.database, f"p{next(_PROJECTS)}")
        self.now = START
        self.fresh = count()
        self.pointers: dict[str, Pointers] = {MAIN: {}}
        self.bases: dict[str, Pointers] = {MAIN: {}}
        #: What each ref looked like after each of its logged commits.
        self.history: dict[str, list[tuple[datetime, Pointers]]] = {MAIN: []}

    def teardown(self) -> None:
        self.store.close()

    @rule(name=names, source=names)
    def create(self, name: str, source: str) -> None:
        forked = dict(self.pointers.get(source, {}))
        try:
            with self.store.write() as tx:
                tx.refs.create(name, RefKind.BRANCH, now=self.now, pointers=forked, parent=source)
        except Refused:
            assert name in self.pointers
        else:
            assert name not in self.pointers
            self.pointers[name], self.bases[name] = dict(forked), dict(forked)
            self.history[name] = [(self.now, dict(forked))]

    @rule(
        name=names,
        tables=st.lists(st.sampled_from(TABLES), min_size=1, max_size=3, unique=True),
        drop=st.booleans(),
        stale=st.integers(0, 5),
        step=st.integers(0, 2),
    )
    def commit(self, name: str, tables: list[TableName], drop: bool, stale: int, step: int) -> None:
        """Swap some tables and log it, in one transaction; one of the swaps may expect what is not there."""
        before = self.pointers.get(name)
        changes: dict[TableName, tuple[str | None, str | None]] = {}
        for number, table in enumerate(tables):
            seen = (before or {}).get(table)
            changes[table] = ("stale" if number == stale else seen, None if drop else f"v{next(self.fresh)}")
        self.now += step * timedelta(seconds=1)
        try:
            with self.store.write() as tx:
                for table, (old, new) in changes.items():
                    tx.refs.swap(name, table, old, new)
                record = tx.refs.log(name, "write", now=self.now, changes=changes)
        except Conflict:
            assert stale < len(tables)
            return
        except (Refused, UnknownName):
            assert before is None
            return
        assert before is not None
        assert stale >= len(tables)
        for table, (_, new) in changes.items():
            before.pop(table, None)
            if new is not None:
                before[table] = new
        self.history[name].append((record.at, dict(before)))

    @rule(name=names, table=st.sampled_from(TABLES))
    def rebase(self, name: str, table: TableName) -> None:
        if name in self.pointers and name != MAIN:
            pointer = self.pointers[MAIN].get(table)
            with self.store.write() as tx:
                tx.refs.set_base(name, table, pointer)
            self.bases[name].pop(table, None)
            if pointer is not None:
                self.bases[name][table] = pointer

    @rule(name=names, state=st.sampled_from([RefState.MERGED, RefState.DROPPED]))
    def end(self, name: str, state: RefState) -> None:
        if name not in self.pointers or name == MAIN:
            return
        with self.store.write() as tx:
            tx.refs.update(name, state=state)
            tx.refs.remove_pointers(name)
        for model in (self.pointers, self.bases, self.history):
            del model[name]

    @invariant()
    def same(self) -> None:
        with self.store.read() as tx:
            standing = {ref.name: ref for ref in tx.refs.all(states=[RefState.OPEN])}
            assert standing.keys() == self.pointers.keys()
            for name, expected in self.pointers.items():
                assert tx.refs.pointers(name) == expected
                assert tx.refs.bases(name) == self.bases[name]
                commits = tx.refs.commits(name)
                assert standing[name].head == len(commits)
                assert [c.at for c in commits] == sorted({c.at for c in commits}, reverse=True)

    @invariant()
    def same_past(self) -> None:
        with self.store.read() as tx:
            for name, history in self.history.items():
                for at, expected in history[-3:]:
                    later = [when for when, _ in history if when == at]
                    if len(later) == 1:
                        assert tx.refs.pointers_at(name, at) == expected


def test_refs_do_what_dicts_would_do(database: str, open_store: Callable[..., Any]) -> None:
    RefsAgainstModel.database, RefsAgainstModel.open_store = database, staticmethod(open_store)
    run_state_machine_as_test(
        RefsAgainstModel,
        settings=settings(
            max_examples=few(10), stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
