"""Port `source` on a topic: each batch takes the messages since the one before, and archives them as they came.

No consumer group has a part in it: how far a topic was read is the bookmark, which moves with the publish. Messages
are kept whole, in files of columns (`message_files.py`); a load makes rows of these (`message_rows.py`). What the topic
no longer had is a part, too, so that quarantine tells of it.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import BinaryIO, cast

from tidemill.adapters.arrow.message_files import ParquetMessages
from tidemill.model.batch import Bookmark
from tidemill.model.errors import DataError, DefinitionError, TidemillError, UnknownName, Unreachable
from tidemill.model.pipeline import SourceSpec
from tidemill.model.topic_feed import LOST, MESSAGES, TopicFeed
from tidemill.plan.topic_range import Here, Range, Reached, range_of
from tidemill.ports.clock import Clock
from tidemill.ports.source import ExtractRequest, Piece, RawFile
from tidemill.ports.topic import Messages, Partition, Reader, Topics

_log = logging.getLogger("tidemill")

#: Messages that are read at once, and seconds that one read waits for some.
_LIMIT, _WAIT = 20_000, 0.2
#: Seconds without a message, while some are missing, after which the broker is thought unwell.
_PATIENCE = 60.0
#: Bytes of messages in one part, which are in memory until it is written, and what is counted for each beside them.
_PART, _EACH = 32 << 20, 100
#: Bytes of a part that are held in memory once it is packed.
_IN_MEMORY = 8 << 20


class TopicSource:
    """The messages of a topic.

    Args:
        spec: the feed.
        feed: its origin.
        opened: lends the broker.
        clock: the time, to wait by.
    """

    def __init__(
        self,
        spec: SourceSpec,
        feed: TopicFeed,
        opened: Callable[[], AbstractContextManager[Topics]],
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._feed = feed
        self._opened = opened
        self._clock = clock

    def extract(self, request: ExtractRequest) -> TopicExtraction:
        """Take what there is now, or again what a batch took before.

        Raises:
            DefinitionError: batches end with their interval, and the run has none.
        """
        if self._feed.until == "interval" and request.interval is None:
            raise DefinitionError(
                f'Source "{self._spec.name}" reads until the end of an interval, and this run has none.',
                where=self._spec.place,
                hint='give the pipeline a schedule, e.g. schedule="@daily"',
            )
        return TopicExtraction(self._spec, self._feed, self._opened, self._clock, request)


class TopicExtraction:
    """A stretch of a topic, as pieces."""

    def __init__(
        self,
        spec: SourceSpec,
        feed: TopicFeed,
        opened: Callable[[], AbstractContextManager[Topics]],
        clock: Clock,
        request: ExtractRequest,
    ) -> None:
        self._spec = spec
        self._feed = feed
        self._opened = opened
        self._clock = clock
        self._request = request
        self._stack = ExitStack()
        self._reached: Reached | None = None
        self._lost: list[dict[str, object]] = []

    def __enter__(self) -> TopicExtraction:
        return self

    def __exit__(self, *exit_: object) -> None:
        self._stack.close()

    @property
    def bookmark_after(self) -> Bookmark:
        """The offsets that come next."""
        assert self._reached is not None, "the pieces are taken first"
        return self._reached.as_json()

    def __iter__(self) -> Iterator[Piece]:
        before, until = Reached.of_json(self._request.bookmark), Reached.of_json(self._request.until)
        try:
            topics = self._stack.enter_context(self._opened())
            here = self._here(topics)
            wanted = range_of(
                here, before, until, start=self._feed.start, ends=self._ends(topics), on_loss=self._feed.on_loss
            )
            if wanted.remade is not None:
                reached = wanted.remade.as_json()
                self._tell(
                    here.topic, 0, "the topic was made again: what was not read of the one before is lost", reached
                )
            at = dict(wanted.begin)
            yield from self._parts(self._read(topics, wanted, at))
        except TidemillError as error:
            error.where = error.where or self._spec.place
            raise
        if self._lost:
            lines = b"".join(json.dumps(one).encode() + b"\n" for one in self._lost)
            yield RawFile(f"{LOST}messages.jsonl", lambda: io.BytesIO(lines))
        begun = wanted.begin if before is None or wanted.remade is not None else {}
        self._reached = until or Reached(here.topic, here.id, at, begun)

    def _here(self, topics: Topics) -> Here:
        info = topics.describe(self._feed.topic)
        if info is None:
            raise UnknownName.of("topic", self._feed.topic, topics.names())
        return Here(info.name, info.id, info.first, info.end)

    def _ends(self, topics: Topics) -> tuple[int, ...] | None:
        """Where the messages of the next interval begin, if batches end there."""
        interval = self._request.interval
        if self._feed.until == "end" or interval is None or self._request.until is not None:
            return None
        return topics.at(self._feed.topic, round(interval.end.timestamp() * 1000))

    def _read(self, topics: Topics, wanted: Range, at: dict[int, int]) -> Iterator[Messages]:
        """The messages; `at` follows what was given."""
        left = self._feed.max_messages if self._request.until is None else None
        open_ = {number for number, offset in at.items() if offset < wanted.end[number]}
        if not open_:
            return
        reader = topics.reader()
        self._stack.callback(reader.close)
        reader.take({Partition(self._feed.topic, number): at[number] for number in open_})
        since = self._clock.monotonic()
        while open_ and left != 0:
            self._look_for_losses(reader, wanted.end, at)
            for messages in reader.read(_LIMIT if left is None else min(_LIMIT, left), _WAIT):
                since = self._clock.monotonic()
                number = messages.partition.number
                found = messages.before(wanted.end[number]) if number in open_ else None
                at[number] = min(messages.offsets[-1] + 1, wanted.end[number])
                if found is not None and len(found):
                    left = None if left is None else left - len(found)
                    yield found
            self._look_for_losses(reader, wanted.end, at)
            # After the last message there may be offsets that nobody gets: the reader knows.
            for partition, offset in reader.positions().items():
                at[partition.number] = max(at[partition.number], min(offset, wanted.end[partition.number]))
            done = {number for number in open_ if at[number] >= wanted.end[number]}
            reader.drop([Partition(self._feed.topic, number) for number in sorted(done)])
            open_ -= done
            if open_ and left != 0 and self._clock.monotonic() - since > _PATIENCE:
                raise Unreachable(f"Nothing has come from {self._feed.topic}[{min(open_)}] for {_PATIENCE:.0f} s.")

    def _look_for_losses(self, reader: Reader, end: Mapping[int, int], at: dict[int, int]) -> None:
        """Tell of messages that were removed before they were read, or fail."""
        for partition, (wanted, oldest) in reader.lost().items():
            if oldest < wanted:
                raise DataError(f"{partition} was made again while it was read.", hint="run it again")
            last = min(oldest, end[partition.number])
            if wanted >= last:
                continue
            what = f"messages {wanted} to {last - 1} were removed before they were read"
            if self._feed.on_loss == "fail":
                raise DataError(
                    f"{partition}: {what}; the oldest that it has is {oldest}.",
                    hint='on_loss="warn" goes on there, and tells in the quarantine what is missing; '
                    "keep messages longer, or run more often",
                )
            at[partition.number] = last
            self._tell(str(partition), wanted, what, {"from": wanted, "to": last})

    def _tell(self, file: str, line: int, what: str, lost: Mapping[str, object]) -> None:
        _log.warning("source %s: %s: %s.", self._spec.name, file, what)
        self._lost.append({"file": file, "line": line, "error": what, "lost": lost})

    def _parts(self, stretches: Iterator[Messages]) -> Iterator[RawFile]:
        waiting: list[Messages] = []
        size, number = 0, 0
        for one in stretches:
            waiting.append(one)
            size += _EACH * len(one) + sum(sum(map(len, filter(None, c))) for c in (one.keys, one.values))
            if size >= _PART:
                yield from _part(waiting, number)
                waiting, size, number = [], 0, number + 1
        if waiting:
            yield from _part(waiting, number)


def _part(stretches: list[Messages], number: int) -> Iterator[RawFile]:
    """Messages as a file, partition by partition."""
    files = ParquetMessages()
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
        files.write(cast(BinaryIO, kept), sorted(stretches, key=lambda one: (one.partition.number, one.offsets[0])))
        kept.seek(0)
        yield RawFile(f"{MESSAGES}{number:04d}{files.extension}", partial(_lent, cast(BinaryIO, kept)))


@contextmanager
def _lent(kept: BinaryIO) -> Iterator[BinaryIO]:
    """The file for as long as it is read; whoever made it closes it."""
    yield kept
