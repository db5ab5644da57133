"""What is archived of topics: batches of raw messages, found by offset or by time. The archive is a topic's cold tier.

    topic.<name>/messages/dt=<day>/batch=<id>/messages-<token>.parquet    the messages, partition by partition
                                              manifest.v1.json            written last: it selects the file

Batch n of a topic has the run key `messages n`; its manifest ends where the bookmark of that version stood. So a batch
is found by halving the numbers, however many there are. Whatever dies when, an offset is archived once:

    batch opened -> file -> manifest (created by one writer only) -> manifest indexed and bookmark moved, together

Whoever finds a sealed manifest that the bookmark does not know takes it over. A file that no manifest names is never
read; it has no name that clean-up takes for a part of a run's, which would mistake one in the making for garbage.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, BinaryIO, cast

from tidemill.flow.archive import Archive, HashingWriter, folder_of
from tidemill.model.batch import Batch, BatchKey, BatchState, Manifest, Part, owner_of
from tidemill.model.errors import DataError
from tidemill.ports.clock import Clock
from tidemill.ports.message_files import MessageFiles
from tidemill.ports.metadata import Metadata, Tx
from tidemill.ports.topic import Messages, Partition

#: The input's name in batches of topics.
SOURCE = "messages"


@dataclass(frozen=True, slots=True)
class Archived:
    """How far a topic is archived; by partition number.

    Args:
        batches: how many there are.
        since: so many of them are of an earlier topic of the name, which was deleted.
        first, end: from which offset, and up to which, not including it.
        newest: the latest timestamp, in milliseconds.
        lost: what the newest batch did not get, since the topic no longer had it: from, up to.
    """

    batches: int = 0
    since: int = 0
    first: Mapping[int, int] = field(default_factory=dict)
    end: Mapping[int, int] = field(default_factory=dict)
    newest: Mapping[int, int] = field(default_factory=dict)
    lost: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def anew(self) -> Archived:
        """Of a topic that was deleted and made again: nothing is archived of that."""
        return Archived(self.batches, self.batches)

    def with_messages(
        self, stretches: Sequence[Messages], lost: Mapping[int, tuple[int, int]], reached: Mapping[Partition, int]
    ) -> Archived:
        """After a batch of all messages up to where a reader stands."""
        first, end, newest = dict(self.first), dict(self.end), dict(self.newest)
        for one in stretches:
            number = one.partition.number
            first.setdefault(number, one.offsets[0])
            end[number] = max(one.offsets[-1] + 1, reached.get(one.partition, 0))
            newest[number] = max(newest.get(number, -1), max(one.timestamps))
        return Archived(self.batches + 1, self.since, first, end, newest, dict(lost))

    def as_json(self) -> dict[str, Any]:
        """As a bookmark keeps it."""
        found: dict[str, Any] = {"since": self.since}
        for name in ("first", "end", "newest"):
            found[name] = {str(number): value for number, value in sorted(getattr(self, name).items())}
        if self.lost:
            found["lost"] = {str(number): list(span) for number, span in sorted(self.lost.items())}
        return found


def archived_of(tx: Tx, topic: str) -> Archived:
    """How far a topic is archived, as its bookmark says."""
    mark = tx.bookmarks.get(owner_of(topic), SOURCE)
    return _archived(mark.version, mark.value)


def _archived(version: int, value: Any) -> Archived:
    if not value:
        return Archived(version)
    first, end, newest = ({int(n): one for n, one in value[name].items()} for name in ("first", "end", "newest"))
    lost = {int(number): (span[0], span[1]) for number, span in value.get("lost", {}).items()}
    return Archived(version, value["since"], first, end, newest, lost)


class TopicArchives:
    """The archives of a project's topics.

    Args:
        metadata: knows batches and bookmarks.
        archive: has the files.
        files: how messages are written.
        clock: dates batches.
    """

    def __init__(self, metadata: Metadata, archive: Archive, files: MessageFiles, clock: Clock) -> None:
        self._metadata = metadata
        self._archive = archive
        self._files = files
        self._clock = clock
        # Batches never change; a search asks for some twenty, and the next search for nearly the same.
        self._manifest = lru_cache(maxsize=256)(self._load)

    def of(self, topic: str) -> Archived:
        """How far a topic is archived."""
        with self._metadata.read() as tx:
            return archived_of(tx, topic)

    # Reading

    def read(self, partition: Partition, offset: int) -> Iterator[tuple[Archived, Iterator[Messages]]]:
        """Batches that have messages of a partition from an offset on, oldest first, up to those that there are now.

        Gives each with how far it came, which tells what was lost before it.
        """
        number = self._first(self.of(partition.topic), partition, lambda one: one.end.get(partition.number, 0) > offset)
        if number is None:
            return
        for at in range(number, self.of(partition.topic).batches + 1):
            manifest, came = self._manifest(partition.topic, at)
            yield came, self._messages(manifest, partition, offset)

    def at(self, topic: str, timestamp: int) -> Mapping[int, int]:
        """By partition: the first archived offset whose message is not older; those that have none are missing."""
        archived = self.of(topic)
        found: dict[int, int] = {}
        for number in archived.end:
            partition = Partition(topic, number)
            batch = self._first(archived, partition, lambda one, n=number: one.newest.get(n, -1) >= timestamp)
            if batch is not None:
                found[number] = self._since(self._manifest(topic, batch)[0], partition, timestamp)
        return found

    def _since(self, manifest: Manifest, partition: Partition, timestamp: int) -> int:
        for messages in self._messages(manifest, partition, 0):
            for offset, stamp in zip(messages.offsets, messages.timestamps, strict=True):
                if stamp >= timestamp:
                    return offset
        raise DataError(f"Batch {manifest.batch_id} has other messages of {partition} than its manifest says.")

    def _first(self, archived: Archived, partition: Partition, holds: Any) -> int | None:
        """The first batch that a condition holds for; it holds for all that follow it, too."""
        if not holds(archived):
            return None
        low, high = archived.since + 1, archived.batches
        while low < high:
            middle = (low + high) // 2
            if holds(self._manifest(partition.topic, middle)[1]):
                high = middle
            else:
                low = middle + 1
        return low

    def _load(self, topic: str, number: int) -> tuple[Manifest, Archived]:
        with self._metadata.read() as tx:
            batch = tx.batches.find(_key(topic, number))
            manifest = tx.archive.get(batch.id, SOURCE) if batch is not None else None
        if manifest is None:
            raise DataError(f'Batch "messages {number}" of topic "{topic}" is not in the metadata database.')
        return manifest, _archived(number, manifest.bookmark_after)

    def _messages(self, manifest: Manifest, partition: Partition, offset: int) -> Iterator[Messages]:
        for part in manifest.parts:
            with self._archive.open(part) as stream:
                yield from self._files.read(stream, partition, offset)

    # Writing

    def add(self, topic: str, known: Archived, stretches: Sequence[Messages], came: Archived) -> Archived:
        """Archive messages as the next batch. Gives how far it is archived then: what was given, or what a writer
        had sealed that died, or is about to lose against this one; messages after that are to be read again.

        Args:
            topic: whose.
            known: how far it was archived.
            stretches: its messages from there on, by partition.
            came: how far it is archived with them.

        Raises:
            Conflict: another writer has moved the bookmark.
        """
        number = known.batches + 1
        with self._metadata.write() as tx:
            batch = tx.batches.open(_key(topic, number), self._clock.now())
        manifest = self._archive.sealed(batch, SOURCE)
        if manifest is None:
            manifest = self._seal(batch, known, stretches, came)
        with self._metadata.write() as tx:
            now = self._clock.now()
            tx.bookmarks.swap(owner_of(topic), SOURCE, known.batches, manifest.bookmark_after, batch.id)
            tx.archive.add(manifest)
            tx.batches.update(
                batch.id, state=BatchState.PUBLISHED, extracted_at=manifest.extracted_at, archived_at=now,
                published_at=now,
            )  # fmt: skip
        return _archived(number, manifest.bookmark_after)

    def _seal(self, batch: Batch, known: Archived, stretches: Sequence[Messages], came: Archived) -> Manifest:
        name = f"messages-{uuid.uuid4().hex[:12]}{self._files.extension}"
        path = f"{folder_of(batch, SOURCE)}/{name}"
        now = self._clock.now()
        with self._archive.files.create(path) as stream:
            hashing = HashingWriter(stream, lambda _bytes: None)
            rows = self._files.write(cast(BinaryIO, hashing), stretches)
        part = Part(path, name, hashing.sha256, hashing.bytes, rows, self._files.extension.lstrip("."), "zstd",
                    self._archive.key)  # fmt: skip
        before = replace(known, lost={}).as_json() if known.end else None
        manifest = Manifest(
            batch.id, batch.pipeline, SOURCE, 1, 1, (part,), now,
            bookmark_before=before, bookmark_after=came.as_json(),
        )  # fmt: skip
        try:
            self._archive.seal(batch, manifest)
        except FileExistsError:
            other = self._archive.sealed(batch, SOURCE)
            assert other is not None
            return other
        return manifest


def _key(topic: str, number: int) -> BatchKey:
    return BatchKey(owner_of(topic), run_key=f"{SOURCE} {number}")
