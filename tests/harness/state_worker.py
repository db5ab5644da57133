"""A process of its own that uses a state store: `python state_worker.py ACTION KIND FOLDER`. Tests kill it, or take its
room on the disk away.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tidemill.adapters.memory.state import MemoryStates
from tidemill.adapters.rocksdict.state import RocksStates
from tidemill.adapters.sqlitestate.state import SqliteStates
from tidemill.model.errors import Unreachable
from tidemill.ports.state import StateStore, StateStores

#: All adapters of the port; the first keeps nothing on a disk.
STATES: dict[str, Callable[[Path], StateStores]] = {
    "memory": lambda folder: MemoryStates(),
    "rocksdict": RocksStates,
    "sqlite": SqliteStates,
}
ON_DISK = [kind for kind in STATES if kind != "memory"]
#: Keys that every write of `write_for_ever` sets to one number.
TOGETHER = 50


def write_for_ever(store: StateStore) -> None:
    """Set all keys to one number, and every seventh time remove the odd ones; tell the number when it is written."""
    number = int(store.mark or b"0")
    while True:
        number += 1
        store.write(numbered(number), b"%d" % number)
        print(number, flush=True)


def numbered(number: int) -> list[tuple[bytes, bytes | None]]:
    """The changes of one write."""
    value = b"%d" % number + b"." * 2_000
    return [(b"%03d" % i, None if i % 2 and number % 7 == 0 else value) for i in range(TOGETHER)]


def hold(store: StateStore) -> None:
    """Keep the store open until the end of the input."""
    print("held", flush=True)
    sys.stdin.read()


def fill(store: StateStore) -> None:
    """Write until a file cannot grow, then with room again; tell what happened."""
    store.write([(b"first", b"1")], b"first")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, resource.RLIM_INFINITY))
    written = until_full(store)
    seen = [key for key, _ in store.scan(b"fill")]
    kept = store.mark == b"%d" % written and len(seen) == written * 4
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.write([(b"last", b"1")], b"last")
    print(written, kept, store.get([b"first", b"last"]) == [b"1", b"1"], store.mark == b"last", flush=True)


def until_full(store: StateStore) -> int:
    """Write quarter megabytes until there is no room: how often it went well."""
    written = 0
    while written < 400:
        changes = [(b"fill%04d.%d" % (written, part), bytes(range(256)) * 250) for part in range(4)]
        try:
            store.write(changes, b"%d" % (written + 1))
        except Unreachable:
            return written
        written += 1
    raise AssertionError("100 MB fitted")


def many(store: StateStore) -> None:
    """Write, ask for and scan 1M keys; tell by how many MiB the process grew, and how many bytes a key takes."""
    before = resident()
    for start in range(0, 1_000_000, 50_000):
        # A step that is prime to the number of keys: they come in no order of theirs.
        numbers = [n * 611_953 % 1_000_000 for n in range(start, start + 50_000)]
        store.write([(b"key%07d" % n, b"value%015d" % n) for n in numbers], b"%d" % start)
    found = store.get([b"key%07d" % n for n in range(0, 1_000_000, 1_000)])
    assert found == [b"value%015d" % n for n in range(0, 1_000_000, 1_000)]
    assert sum(1 for _ in store.scan()) == 1_000_000
    print(resident() - before, store.size() // 1_000_000, flush=True)


def resident() -> int:
    """MiB of memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


ACTIONS = {action.__name__: action for action in (write_for_ever, hold, fill, many)}


def main() -> None:
    action, kind, folder = sys.argv[1:]
    ACTIONS[action](STATES[kind](Path(folder)).open("stream/step/0"))


if __name__ == "__main__":
    main()
