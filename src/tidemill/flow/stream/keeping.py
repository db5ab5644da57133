"""What a task of a stream remembers: `Kept` stands between the operators, the task's store, and its changelog.

Operators see their own changes at once. A checkpoint sends them to the changelog (`log`), and once the writer's commit
has made them count, to the store (`committed`). So the changelog is the truth, and the store a copy that may be behind
it, never ahead: `recover` brings it up (`recovery.py`). There is always a changelog: with topics in the metadata
database it is a topic there. Without one a crash between commit and store would lose what the commit counted as done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from tidemill.flow.stream.recovery import Ending, Mark, Recovering, recover
from tidemill.ports.clock import Clock
from tidemill.ports.state import StateStore
from tidemill.ports.topic import Partition, Reader, TopicInfo, Writer

#: Bytes of unchanged values that a task holds in memory.
CACHE = 32 << 20
#: An unchanged store's mark may be that old: it is there for its age, which counts in hours.
FRESH = timedelta(minutes=1)

#: Python's own bytes for a key and a value in a dictionary.
_ENTRY = 170


class _Unknown:
    """Stands for "not held here", where None is "known to be absent"."""


_UNKNOWN = _Unknown()


class Kept:
    """The state of one task. One thread uses it; `recover` comes first.

    Args:
        store: the task's own.
        changelog: the task's partition of the step's changelog.
        clock: dates the marks.
        topology: a fingerprint of the code that gives the state its meaning.
        cache: bytes of unchanged values that are held in memory; changes of a checkpoint are held in any case.
    """

    def __init__(
        self, store: StateStore, changelog: Partition, clock: Clock, topology: str, *, cache: int = CACHE
    ) -> None:
        self._store, self._changelog, self._clock, self._topology = store, changelog, clock, topology
        self._clean = _Clean(cache)
        self._mark = Mark(topology=topology, covered=0, at=clock.now())
        #: What the operators changed since the last `log`; what was sent, and is not known to count; what counts, and
        #: is not in the store because that failed. Together, newest first: all that the store does not know.
        self._staged: dict[bytes, bytes | None] = {}
        self._logged: dict[bytes, bytes | None] = {}
        self._behind: dict[bytes, bytes | None] = {}
        self._ahead: dict[bytes, bytes | None] = {}
        #: Keys whose newest value in the changelog may be one that was taken back.
        self._doubtful: set[bytes] = set()
        self._sent = 0

    @property
    def mark(self) -> Mark:
        """How far the store has come."""
        return self._mark

    @property
    def changed(self) -> int:
        """How many keys were changed since the last `log`."""
        return len(self._staged)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of these keys."""
        ahead, clean = self._ahead.get, self._clean.get
        found: list[bytes | None | _Unknown] = []
        missing: list[int] = []
        for at, key in enumerate(keys):
            value = ahead(key, _UNKNOWN)
            if value is _UNKNOWN:
                value = clean(key)
                if value is _UNKNOWN:
                    missing.append(at)
            found.append(value)
        if missing:
            asked = [keys[at] for at in missing]
            for at, key, stored in zip(missing, asked, self._store.get(asked), strict=True):
                found[at] = stored
                self._clean.hold(key, stored)
        return found  # type: ignore[return-value]  # what was unknown has been asked for

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin with `prefix`, in the order of their bytes; changes made meanwhile are not seen."""
        return _merged(
            self._store.scan(prefix),
            sorted((key, value) for key, value in self._ahead.items() if key.startswith(prefix)),
        )

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set a value (None: remove the key); it counts with the next checkpoint."""
        self._staged[key] = self._ahead[key] = value

    def log(self, writer: Writer) -> int:
        """Send what was changed to the changelog; how many messages that were.

        What is known to be as the last checkpoint had it is left out.

        Raises:
            Unreachable, Fenced, DataError: as the writer does; `forget` then.
        """
        # Of these the held value is not that of the last checkpoint.
        unsure = self._logged.keys() | self._behind.keys() | self._doubtful
        clean = self._clean.get
        changes = {key: value for key, value in self._staged.items() if key in unsure or clean(key) != value}
        if again := [key for key in self._doubtful if key not in changes]:
            changes.update(zip(again, self.get(again), strict=True))
        self._logged.update(changes)
        # Those that were left out are in the store already: nothing has to hold them.
        for key in self._staged.keys() - changes.keys():
            del self._ahead[key]
        self._staged = {}
        if changes:
            topic, number = self._changelog
            writer.send(topic, list(changes.values()), keys=list(changes), partitions=number)
            self._sent += len(changes)
        return len(changes)

    def committed(self, checkpoint: int) -> None:
        """The writer's commit counts: bring the store up to it.

        Raises:
            Unreachable: the disk is full. The changes are held, and go with the next checkpoint.
        """
        now = self._clock.now()
        # Ends are not told to whoever sends. Each message moves the end by one at the least (markers of transactions
        # do, too), so this lies never behind what is covered; that it may lie before it costs some messages read twice.
        mark = replace(self._mark, checkpoint=checkpoint, covered=self._mark.covered + self._sent, at=now)
        changes = self._behind | self._logged
        self._behind, self._logged, self._doubtful, self._sent = changes, {}, set(), 0
        if not changes and now - self._mark.at < FRESH:
            return
        held, self._mark = self._mark, mark
        try:
            self._store.write(changes.items(), mark.packed())
        except BaseException:
            # The next mark must still count what was sent.
            self._mark = replace(held, covered=mark.covered)
            raise
        for key, value in changes.items():
            self._clean.hold(key, value)
        self._behind, self._ahead = {}, dict(self._staged)

    def forget(self) -> None:
        """The checkpoint does not count: the state is as after the last one that does.

        An at-least-once changelog may hold the changes all the same; their keys are sent again with the next
        checkpoint, as they are then.
        """
        self._doubtful.update(self._logged)
        self._staged, self._logged, self._sent = {}, {}, 0
        self._ahead = dict(self._behind)

    def recover(
        self,
        reader: Reader,
        changelog: TopicInfo,
        *,
        compatible: Callable[[str], bool] = lambda _topology: True,
        told: Callable[[Recovering], None] = lambda _progress: None,
        stop: Callable[[], bool] = lambda: False,
        ending: Ending | None = None,
    ) -> bool:
        """Bring the store to the end of the changelog. See `recovery.recover`; False: `stop` has ended it."""
        self.forget()
        self._behind, self._ahead, self._doubtful = {}, {}, set()
        self._clean.clear()
        mark, done = recover(
            self._store,
            reader,
            self._changelog,
            changelog,
            clock=self._clock,
            topology=self._topology,
            compatible=compatible,
            told=told,
            stop=stop,
            ending=ending or Ending(),
        )
        self._mark = mark
        return done

    def size(self) -> int:
        """About how many bytes the store takes."""
        return self._store.size()

    def close(self) -> None:
        """Let the store go; what was not committed is forgotten."""
        self.forget()
        self._store.close()


class _Clean:
    """Values as the store has them, those that were used last: two dictionaries, of which the older one is thrown away
    when the younger one is full. It costs one look-up for a hit, where an order of use costs three.
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self.clear()

    def clear(self) -> None:
        """Hold nothing."""
        self._young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}
        self._size = 0

    def get(self, key: bytes) -> bytes | None | _Unknown:
        """A value, None where there is none, `_UNKNOWN` where it is not held."""
        value = self._young.get(key, _UNKNOWN)
        if value is _UNKNOWN:
            value = self._old.get(key, _UNKNOWN)
            if not isinstance(value, _Unknown):
                self.hold(key, value)
        return value

    def hold(self, key: bytes, value: bytes | None) -> None:
        """Hold a value."""
        self._young[key] = value
        self._size += len(key) + len(value or b"") + _ENTRY
        if self._size > self._half:
            self._old, self._young, self._size = self._young, {}, 0


def _merged(
    stored: Iterator[tuple[bytes, bytes]], ahead: Sequence[tuple[bytes, bytes | None]]
) -> Iterator[tuple[bytes, bytes]]:
    """Two lists in order as one; of a key in both the second's value counts, and None removes it."""
    at = 0
    for key, value in stored:
        while at < len(ahead) and ahead[at][0] < key:
            newer = ahead[at]
            at += 1
            if newer[1] is not None:
                yield newer[0], newer[1]
        if at < len(ahead) and ahead[at][0] == key:
            newest = ahead[at][1]
            at += 1
            if newest is not None:
                yield key, newest
        else:
            yield key, value
    for key, left in ahead[at:]:
        if left is not None:
            yield key, left
