"""A process of its own that uses the metadata store: `python metadata_worker.py ACTION URL ARGUMENTS`.

It says "ready", does one step for each line that it is given, and answers each with a line. Tests start several to
let them race, or kill one in the middle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta

from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.batch import BatchKey
from tidemill.model.branch import MAIN, RefKind
from tidemill.model.errors import Busy, Conflict, Refused
from tidemill.model.table import TableName

CLOCK = SystemClock()
FLIGHTS, DELAYS = TableName("flights", "departures"), TableName("flights", "delays")


def swap(store: SqlMetadata, me: str, line: str) -> str:
    """Swap one table from what the line says to something of one's own."""
    before = None if line == "none" else line
    try:
        with store.write() as tx:
            tx.refs.swap(MAIN, FLIGHTS, before, f"{me}{line}")
            tx.refs.log(MAIN, "publish", now=CLOCK.now(), changes={FLIGHTS: (before, f"{me}{line}")})
    except Conflict:
        return "conflict"
    return f"{me}{line}"


def start(store: SqlMetadata, me: str, line: str) -> str:
    """Start an attempt at the batch of the run key in the line."""
    now = CLOCK.now()
    try:
        with store.write() as tx:
            batch = tx.batches.open(BatchKey("flights", run_key=line), now)
            run = tx.runs.start(batch.id, holder=me, now=now, lease_until=now + timedelta(minutes=1))
    except Busy as busy:
        return f"busy {busy.where}"
    return f"{me} {run.attempt}"


def create(store: SqlMetadata, me: str, line: str) -> str:
    """Make the branch that the line names."""
    try:
        with store.write() as tx:
            tx.refs.create(line, RefKind.BRANCH, now=CLOCK.now(), pointers={FLIGHTS: me})
    except Refused:
        return "refused"
    return me


def migrate(store: SqlMetadata, _me: str, _line: str) -> str:
    """Bring the schema up to date."""
    store.migrate()
    with store.read() as tx:
        return str(len(tx.refs.all()))


def stop_within(store: SqlMetadata, _me: str, _line: str) -> str:
    """Move everything, and wait for the end before the commit."""
    with store.write() as tx:
        batch = tx.batches.open(BatchKey("flights", run_key="unfinished"), CLOCK.now())
        tx.refs.swap(MAIN, FLIGHTS, None, "unfinished")
        tx.refs.log(MAIN, "publish", now=CLOCK.now(), changes={}, batch_id=batch.id)
        tx.events.add("published", {}, CLOCK.now())
        print("within", flush=True)
        sys.stdin.readline()
    return "committed"


def publish_for_ever(store: SqlMetadata, _me: str, _line: str) -> str:
    """Move two tables, the log, a bookmark and an event together, again and again, telling what was committed."""
    with store.write() as tx:
        batch = tx.batches.open(BatchKey("flights", run_key="endless"), CLOCK.now())
    while True:
        with store.write() as tx:
            found = tx.refs.pointers(MAIN)
            version = tx.bookmarks.get("flights", "feed").version
            for table in (FLIGHTS, DELAYS):
                tx.refs.swap(MAIN, table, found.get(table), f"p{version + 1}")
            tx.refs.log(MAIN, "publish", now=CLOCK.now(), changes={FLIGHTS: (None, f"p{version + 1}")})
            tx.bookmarks.swap("flights", "feed", version, version + 1, batch.id)
            tx.events.add("published", {"version": version + 1}, CLOCK.now())
        print(version + 1, flush=True)


ACTIONS: dict[str, Callable[[SqlMetadata, str, str], str]] = {
    action.__name__: action for action in (swap, start, create, migrate, stop_within, publish_for_ever)
}


def main() -> None:
    action, url, me = sys.argv[1:]
    with SqlMetadata(url, "project", CLOCK) as store:
        print("ready", flush=True)
        for line in sys.stdin:
            print(ACTIONS[action](store, me, line.strip()), flush=True)


if __name__ == "__main__":
    main()
