"""Extract: ask a source once, archive what it gives, and from then on only read the archive (rule 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice
from typing import Any

from tidemill.flow.archive import PartsWriter
from tidemill.flow.attempt import Attempt
from tidemill.model.batch import Bookmark, Manifest
from tidemill.model.errors import Refused
from tidemill.model.pipeline import SourceKind, SourceSpec
from tidemill.ports.source import ExtractRequest, RawFile

#: Records are cut into parts of about this many, so that no archived file grows without bound.
_ROWS_PER_PART = 1_000_000


def extract(
    attempt: Attempt,
    source: SourceSpec,
    *,
    refetch: bool = False,
    progress: Callable[[int, int], None] = lambda _rows, _bytes: None,
) -> Manifest:
    """Give the manifest of the batch's input from `source`: the archived one, or a new one after extracting.

    Args:
        attempt: the running attempt.
        source: the feed.
        refetch: ask the source again and archive a new version beside the old one.
        progress: called with rows and bytes so far, as they are archived.
    """
    services, batch = attempt.services, attempt.batch
    first, *others = attempt.pipeline.together(source.name)
    known = archived(attempt, source.name)
    if first != source.name:
        return known or _nothing(attempt, source, extract(attempt, attempt.pipeline.sources[first]))
    if known is not None and not refetch:
        return known
    if known is None and batch.published_at is not None:
        leading = next((found for name in others if (found := archived(attempt, name)) is not None), None)
        if leading is not None:
            return _nothing(attempt, source, leading)
    before, until = _range(attempt, source, known)
    names = (first, *others)
    writers = {name: services.archive.writer(batch, name, attempt.run.attempt) for name in names}
    writers[first].progress = progress
    extracted_at = services.clock.now()
    request = ExtractRequest(
        batch=batch,
        bookmark=before if before is not None or known is not None else _others_bookmark(attempt, others),
        until=until,
        parameters=attempt.pipeline.params,
        feeds={name: attempt.pipeline.sources[name] for name in names},
    )
    with services.source(source).extract(request) as extraction:
        for piece in extraction:
            if isinstance(piece, RawFile):
                with piece.open() as stream:
                    writers[piece.feed or first].copy(piece.name, stream)
            else:
                _write_records(attempt, source, writers[first], piece.rows)
        after = extraction.bookmark_after
    if source.kind is not SourceKind.BOOKMARK:
        after = None
    elif until is not None:
        after = until  # a range that was extracted before keeps its end, whatever the source says today
    _note_extracted(attempt, extracted_at)
    # The first is sealed last: where it is sealed, all are, and where it is not, all are extracted again.
    for name in (*others, first):
        older = known if name == first else archived(attempt, name)
        begun = older.bookmark_before if older else _bookmark(attempt, name)
        manifest = Manifest(
            batch_id=batch.id,
            pipeline=batch.pipeline,
            source=name,
            version=older.version + 1 if older else 1,
            attempt=attempt.run.attempt,
            parts=tuple(writers[name].parts),
            extracted_at=extracted_at,
            code_version=services.code_version,
            interval=batch.key.interval,
            bookmark_before=before if name == first else begun,
            bookmark_after=after,
        )
        services.archive.seal(batch, manifest)
        _index(attempt, manifest)
    return manifest


def _nothing(attempt: Attempt, source: SourceSpec, leading: Manifest) -> Manifest:
    """The manifest, sealed, of a source that is declared since its batch was extracted: it has no parts."""
    here = _bookmark(attempt, source.name)
    manifest = replace(
        leading, source=source.name, version=1, attempt=attempt.run.attempt, parts=(), contents=None,
        bookmark_before=here, bookmark_after=here,
    )  # fmt: skip
    attempt.services.archive.seal(attempt.batch, manifest)
    _index(attempt, manifest)
    return manifest


def _bookmark(attempt: Attempt, source: str) -> Bookmark:
    with attempt.services.metadata.read() as tx:
        return tx.bookmarks.get(attempt.pipeline.name, source).value


def _others_bookmark(attempt: Attempt, others: Iterable[str]) -> Bookmark:
    """The bookmark of sources that move together, where the first of them is new."""
    return next((value for name in others if (value := _bookmark(attempt, name)) is not None), None)


def archived(attempt: Attempt, source: str) -> Manifest | None:
    """The newest extraction of the batch, if there is one: from the index, or after a crash from the archive."""
    with attempt.services.metadata.read() as tx:
        known = tx.archive.get(attempt.batch.id, source)
    if known is None:
        known = attempt.services.archive.sealed(attempt.batch, source)
        if known is not None:
            _index(attempt, known)
    return known


def _note_extracted(attempt: Attempt, at: datetime) -> None:
    """Say that the range is the batch's own, before the archive does: what is sealed is always waited for (rule 6)."""
    with attempt.services.metadata.write() as tx:
        tx.runs.check(attempt.run.id, attempt.run.fence)
        tx.batches.update(attempt.batch.id, extracted_at=at)


def _index(attempt: Attempt, manifest: Manifest) -> None:
    now = attempt.services.clock.now()
    with attempt.services.metadata.write() as tx:
        tx.runs.check(attempt.run.id, attempt.run.fence)
        tx.archive.add(manifest)
        tx.batches.update(manifest.batch_id, extracted_at=manifest.extracted_at, archived_at=now)


def _range(attempt: Attempt, source: SourceSpec, known: Manifest | None) -> tuple[Bookmark, Bookmark]:
    """From where to where a bookmark source is asked: a re-run uses the manifest's range (rule 6)."""
    if source.kind is not SourceKind.BOOKMARK:
        return None, None
    if known is not None:
        return known.bookmark_before, known.bookmark_after
    with attempt.services.metadata.read() as tx:
        here = tx.bookmarks.get(attempt.pipeline.name, source.name)
    if here.batch_id is not None and here.batch_id > attempt.batch.id:
        raise Refused(
            f'Batch {attempt.batch.id} of "{attempt.pipeline.name}" has no archived input from "{source.name}", and '
            f"batch {here.batch_id} has already moved the bookmark past it.",
            hint="the rows are in the later batch; there is nothing to run",
        )
    return here.value, None


def _write_records(attempt: Attempt, source: SourceSpec, writer: PartsWriter, rows: Iterable[Any]) -> None:
    """Write records as parts of bounded size, in the source's archive format."""
    encoder = attempt.services.records
    form, compression = source.archive_format, source.archive_compression
    extension = encoder.extension(form, compression)
    remaining = writer.counted(rows)
    for first in remaining:
        part = chain((first,), islice(remaining, _ROWS_PER_PART - 1))
        writer.add(
            f"records{extension}",
            lambda out, part=part: encoder.encode(out, part, form, compression),  # type: ignore[misc]
            format=form,
            compression=None if compression == "none" or form == "avro" else compression,
        )
