"""Port `source` over the inbox: each batch takes what was posted before it began, a part for many bodies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

from tidemill.adapters.webhook.inbox import Inbox
from tidemill.model.batch import Bookmark
from tidemill.model.pipeline import SourceSpec
from tidemill.ports.clock import Clock
from tidemill.ports.source import ExtractRequest, Piece, RawFile

#: Bytes of one part, of which so many are held in memory.
_PART, _IN_MEMORY = 64 << 20, 8 << 20


class WebhookSource:
    """What is posted for a feed."""

    def __init__(self, spec: SourceSpec, inbox: Inbox, clock: Clock) -> None:
        self._spec = spec
        self._inbox = inbox
        self._clock = clock

    def extract(self, request: ExtractRequest) -> WebhookExtraction:
        """Take what there is."""
        pipeline, source = request.batch.pipeline, self._spec.name
        after = int(cast(int, request.bookmark or 0))
        if request.until is None:
            # The bookmark moves with the publish only: what is before it is archived for good.
            self._inbox.forget(pipeline, source, after, self._clock.now())
            until = max(self._inbox.last(pipeline, source), after)
        else:
            until = int(cast(int, request.until))
        return WebhookExtraction(self._inbox, pipeline, source, after, until)


class WebhookExtraction:
    """A range of the inbox, as pieces."""

    def __init__(self, inbox: Inbox, pipeline: str, source: str, after: int, until: int) -> None:
        self._inbox = inbox
        self._pipeline, self._source = pipeline, source
        self._after, self._until = after, until

    def __enter__(self) -> WebhookExtraction:
        return self

    def __exit__(self, *exit_: object) -> None:
        return None

    @property
    def bookmark_after(self) -> Bookmark:
        """The last number."""
        return self._until

    def __iter__(self) -> Iterator[Piece]:
        bodies = self._inbox.taken(self._pipeline, self._source, self._after, self._until)
        one = next(bodies, None)
        while one is not None:
            first, size = one.number, 0
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
                while one is not None and size < _PART:
                    kept.write(one.body)
                    kept.write(b"\n")
                    size += len(one.body)
                    last, one = one.number, next(bodies, None)
                kept.seek(0)
                yield RawFile(f"posted-{first:09d}-{last:09d}.jsonl", partial(_lent, cast(BinaryIO, kept)))


@contextmanager
def _lent(kept: BinaryIO) -> Iterator[BinaryIO]:
    """The file for as long as it is read; whoever made it closes it."""
    yield kept
