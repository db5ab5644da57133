"""One attempt at a batch: its fork of `main`, its branch, its lease. Everything a task may touch goes through it.

The branch is made at the first table write (rule 11). Reads see `main` as of the fork plus the branch (rule 2).
Each table write starts from the fork's version of the table, so a task that runs again replaces what it wrote
before (rule 5), and moves the branch's pointer in a transaction that also checks the attempt's fence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from tidemill.flow.chain import close_branch
from tidemill.flow.services import Services
from tidemill.model.batch import Batch, Interval
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.errors import Conflict, DataError, Fenced, TidemillError, UnknownName, UserError
from tidemill.model.pipeline import PipelineSpec, Scope
from tidemill.model.place import told
from tidemill.model.run import RUN_ENDS, Read, Run, RunState
from tidemill.model.table import Scan, TableName
from tidemill.ports.metadata import Tx, View

#: How long an attempt is believed to be alive without a sign of life, and how often (seconds) it gives one.
LEASE = timedelta(seconds=30)
RENEW_EVERY = 10.0
#: How often (seconds) a waiting run looks whether a publish ticket is free.
_TICKET_POLL = 0.05
#: Failed and abandoned branches stay this long for inspection (rule 8).
BRANCH_LIFE = timedelta(days=14)


#: A version of a table: its name, and its pointer.
Root: TypeAlias = tuple[TableName, str]


@dataclass
class Attempt:
    """The state of a running attempt; made by `open_attempt`, shared by the tasks of the run."""

    services: Services
    pipeline: PipelineSpec
    batch: Batch
    run: Run
    #: Pointers and views of `main` at the fork, and `main`'s head then.
    fork: Mapping[TableName, str]
    fork_views: Mapping[TableName, View]
    fork_head: int
    #: Pointers and views that the attempt has put on its branch.
    written: dict[TableName, str] = field(default_factory=dict)
    written_views: dict[TableName, View] = field(default_factory=dict)
    reads: set[Read] = field(default_factory=set)
    #: Files that a vacuum had given up when the attempt began: of older versions, they may go at any moment.
    doomed: frozenset[str] = frozenset()
    #: True once something outside the lake has happened that another try would do twice (rule 4).
    outside_effects: bool = False

    @property
    def interval(self) -> Interval | None:
        """The data interval."""
        return self.batch.key.interval

    @property
    def branch(self) -> str:
        """The branch's name: `batch-17`, and from the second attempt on `batch-17.2`."""
        return f"batch-{self.batch.id}" + ("" if self.run.attempt == 1 else f".{self.run.attempt}")

    # -- reading ---------------------------------------------------------------------------------------------

    def pointer(self, table: TableName) -> str | None:
        """The version of a table that this attempt sees."""
        return self.written.get(table) or self.fork.get(table)

    def views(self) -> dict[TableName, str]:
        """The SQL of every view that this attempt sees."""
        return {name: view.sql for name, view in {**self.fork_views, **self.written_views}.items()}

    def known_tables(self) -> list[str]:
        """Names of all tables and views that this attempt sees."""
        return sorted(str(t) for t in {*self.fork, *self.written, *self.fork_views, *self.written_views})

    def scan(self, table: TableName, scope: Scope) -> Scan:
        """The files of a table to read; notes the read (rule 2).

        Raises:
            UnknownName: the attempt sees no such table.
        """
        pointer = self.pointer(table)
        if pointer is None:
            raise self._no_table(table)
        batch_id = self.batch.id if scope is Scope.BATCH else None
        scan = self.services.catalog.scan(table, pointer, batch_id=batch_id)
        self.reads.add(Read(str(table), scan.snapshot_id, scope.value))
        return scan

    def _no_table(self, table: TableName) -> TidemillError:
        own = table.namespace == self.pipeline.name
        source = self.pipeline.sources.get(table.table) if own else None
        if own and table.table in self.pipeline.transforms:
            return UserError(
                f'Table "{table}" has not been made yet.',
                hint=f"its own run makes it, on this branch or before: tidemill run {self.pipeline.name}",
            )
        if source is None:
            return UnknownName.of("table", str(table), self.known_tables())
        return DataError(
            f'Table "{table}" has no columns yet: its source has brought no row so far.',
            where=source.place,
            hint=f'declare them: columns={{"id": "long"}}, or run an interval first that has rows of {source.name}',
        )

    # -- writing ---------------------------------------------------------------------------------------------

    def commit(self, moves: Mapping[TableName, str], views: Mapping[TableName, str] | None = None) -> None:
        """Point the branch at new versions of tables, all in one transaction that checks the fence (rule 5).

        Where nothing is written, no branch is made (rule 11).

        Raises:
            Fenced: a newer attempt has taken over.
            Conflict: the branch was moved by somebody else.
        """
        now = self.services.clock.now()
        new_views = {name: View(name, sql) for name, sql in (views or {}).items()}
        with self.services.metadata.write() as tx:
            tx.runs.check(self.run.id, self.run.fence)
            if not moves and not new_views:
                return
            if self.run.branch is None:
                create_branch(self, tx)
            changes: dict[TableName, tuple[str | None, str | None]] = {}
            for table, pointer in moves.items():
                before = self.pointer(table)
                if before != pointer:
                    tx.refs.swap(self.branch, table, before, pointer)
                    changes[table] = (before, pointer)
            for view in new_views.values():
                tx.refs.set_view(self.branch, view.name, view.sql)
            if changes or new_views:
                tx.refs.log(self.branch, "write", now=now, changes=changes, batch_id=self.batch.id, run_id=self.run.id)
        self.run = replace(self.run, branch=self.branch)
        self.written.update(moves)
        self.written_views.update(new_views)

    def end(self, state: RunState, error: BaseException, *, keep: bool = True) -> None:
        """End the attempt badly. Its branch stays for inspection (rule 11), or goes where another try makes it anew."""
        try:
            with self.services.metadata.write() as tx:
                self.end_in(tx, state, error, keep=keep)
        except Fenced:
            return  # somebody else has taken over and ended this attempt already
        except Conflict as conflict:
            error.add_note(f"and the end of the run could not be recorded: {conflict}")
        self.run = replace(self.run, state=state, ended_at=self.services.clock.now())

    def end_in(self, tx: Tx, state: RunState, error: BaseException, *, keep: bool = True) -> None:
        """End the attempt badly, within a transaction. Raises Fenced."""
        run = self.run
        tx.runs.move(run.id, run.fence, state, now=self.services.clock.now(), error=told(error))
        tx.runs.add_reads(run.id, self.reads)
        tx.refs.release_tickets(run.id)
        if run.branch is not None:
            if not keep:
                tx.refs.remove_pointers(run.branch)
            tx.refs.update(run.branch, state=RefState.FAILED if keep else RefState.DROPPED)


def create_branch(attempt: Attempt, tx: Tx) -> None:
    """Make the attempt's branch from what it saw at its fork."""
    now = attempt.services.clock.now()
    tx.refs.create(
        attempt.branch,
        RefKind.RUN,
        now=now,
        pointers=attempt.fork,
        views=attempt.fork_views.values(),
        parent=MAIN,
        parent_head=attempt.fork_head,
        run_id=attempt.run.id,
        expires_at=now + BRANCH_LIFE,
    )
    tx.runs.set_branch(attempt.run.id, attempt.run.fence, attempt.branch)


@contextmanager
def open_attempt(
    services: Services,
    pipeline: PipelineSpec,
    batch: Batch,
    *,
    tickets: Iterable[TableName] = (),
    past: Iterable[tuple[TableName, str]] = (),
) -> Iterator[Attempt]:
    """Start the next attempt at a batch: take its lease, fork `main`, and give signs of life until the end.

    The fork takes all pointers in one SELECT (rule 10) and a lease on them, so that the collector leaves alone
    what the attempt reads (rule 8). With `tickets`, tables that an earlier attempt lost on, it first waits until no
    other live run holds their publish tickets and takes them together with the fork: nobody can publish these
    tables before this attempt does, so it cannot lose on them again (rule 3).

    `past`: older versions of tables that the attempt will read. They are leased too, in the transaction that also looks
    at what a vacuum has given up: a vacuum which decides later sees the lease, one that has decided shows in `doomed`.

    Raises:
        Busy: another attempt at the batch is alive.
    """
    attempt, lease = _start(services, pipeline, batch, sorted(tickets), tuple(past))
    stop = threading.Event()
    beat = threading.Thread(
        target=_heartbeat, args=(services, attempt.run, lease, stop), daemon=True, name=f"lease-{attempt.run.id}"
    )
    beat.start()
    try:
        yield attempt
    finally:
        stop.set()
        beat.join()
        with services.metadata.write() as tx:
            tx.leases.release(lease)


def _start(
    services: Services, pipeline: PipelineSpec, batch: Batch, tickets: Sequence[TableName], past: Sequence[Root]
) -> tuple[Attempt, int]:
    while True:
        with services.metadata.write() as tx:
            now = services.clock.now()
            if ticket_of_another(tx, tickets, None, now, services.alive) is None:
                return _begin(services, tx, pipeline, batch, tickets, past, now)
        services.clock.sleep(_TICKET_POLL)


def ticket_of_another(
    tx: Tx, tables: Iterable[TableName], run_id: int | None, now: datetime, alive: Callable[[str], bool]
) -> TableName | None:
    """The first table whose publish ticket is held by another run that is still alive."""
    for name in tables:
        holder = tx.refs.ticket_holder(name, now)
        other = None if holder in (None, run_id) else tx.runs.get(holder)
        if other is not None and (other.holder is None or alive(other.holder)):
            return name
    return None


def _begin(
    services: Services,
    tx: Tx,
    pipeline: PipelineSpec,
    batch: Batch,
    tickets: Sequence[TableName],
    past: Sequence[Root],
    now: datetime,
) -> tuple[Attempt, int]:
    abandoned = tx.runs.last(batch.id)
    run = tx.runs.start(
        batch.id,
        holder=services.holder,
        now=now,
        lease_until=now + LEASE,
        code_version=services.code_version,
        alive=services.alive,
    )
    if abandoned is not None and abandoned.state not in RUN_ENDS:
        close_branch(tx, abandoned)
    if tickets:  # after the head, as in a publish
        tx.refs.lock(MAIN)
    for name in tickets:
        dead = tx.refs.ticket_holder(name, now)
        if dead is not None:  # its lease is not over yet, but its process is no more
            tx.refs.release_tickets(dead)
        tx.refs.ticket(name, run.id, now=now)
    pointers = tx.refs.pointers(MAIN)
    head = tx.refs.get(MAIN)
    assert head is not None
    lease = tx.leases.acquire(services.holder, [*pointers.items(), *past], now + LEASE)
    doomed = frozenset(tx.leases.doomed(now + timedelta(microseconds=1))) if past else frozenset()
    views = tx.refs.views(MAIN)
    return Attempt(services, pipeline, batch, run, pointers, views, head.head, doomed=doomed), lease


def _heartbeat(services: Services, run: Run, lease: int, stop: threading.Event) -> None:
    """Prolong the leases; a fenced attempt is told by its next commit, so here it only stops."""
    while not stop.wait(RENEW_EVERY):
        until = services.clock.now() + LEASE
        try:
            with services.metadata.write() as tx:
                tx.runs.renew(run.id, run.fence, until)
                tx.leases.renew(lease, until)
        except Fenced:
            return
        except Conflict:
            continue  # the database was locked for long; the lease still has two more tries
