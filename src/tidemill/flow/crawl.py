"""Crawling: what lies below a root is listed, samples of it are decoded, and what that says becomes sources."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tidemill.model.errors import DecodeError, TidemillError
from tidemill.model.table import Contract, Schema
from tidemill.plan.crawl import Crawled, Group, Seen, dialect_of, groups_of, one_dialect
from tidemill.plan.globs import Glob
from tidemill.ports.decoder import DecodeOptions, Decoder, Feed, Restart
from tidemill.ports.places import Found, Place

T = TypeVar("T")

#: By so many bytes of a file its dialect is told.
_HEAD = 1 << 16


def crawl(place: Place, root: str, decoder: Decoder, samples: int) -> list[Crawled]:
    """The tables below a root. One that cannot be read says why in its group's `trouble`.

    Args:
        place: where the files lie.
        root: the folder in it; empty: all of it.
        decoder: by which samples are read.
        samples: so many files of each table are read whole: the first, the last, and others between.

    Raises:
        Unreachable, SettingsError, Refused: the place cannot be listed.
    """
    begin = f"{root}/" if root else ""
    found = {one.path.removeprefix(begin): one for one in place.list(Glob(f"{begin}**/*"))}
    # What does not tell its size is opened to find out; files of no byte are no data.
    seen = (Seen(path, 1 if one.bytes is None else one.bytes) for path, one in sorted(found.items()))
    called = root.rpartition("/")[2] or "files"
    return [_crawled(place, group, found, decoder, samples) for group in groups_of(seen, called)]


def _crawled(place: Place, group: Group, found: dict[str, Found], decoder: Decoder, samples: int) -> Crawled:
    made = Crawled(group, "")
    if group.trouble:
        return made
    with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
        try:
            chosen = spread(group.files, samples)
            feeds = [_feed(place, found[one.path], Path(folder, str(at))) for at, one in enumerate(chosen)]
            looks = [decoder.look(feed, _HEAD) for feed in feeds]
            formats = sorted({kind for kind, _ in looks})
            if len(formats) > 1:
                return replace(made, group=replace(group, trouble=f"files of several formats: {', '.join(formats)}"))
            dialect: dict[str, Any] = {}
            if formats == ["csv"]:
                dialect = one_dialect([dialect_of(head, ".tsv" in chosen[0].path) for _, head in looks])
            kind = None if formats == ["archive"] else formats[0]
            columns = _columns(decoder, feeds, DecodeOptions(format=kind, csv=dialect))
        except (TidemillError, FileNotFoundError) as error:
            told = getattr(error, "what", str(error))
            return replace(made, group=replace(group, trouble=told))
    return Crawled(group, formats[0], dialect, columns, len(feeds))


def spread(files: Sequence[T], most: int) -> list[T]:
    """Some of a list, the first and the last among them."""
    if len(files) <= most:
        return list(files)
    if most == 1:
        return [files[-1]]
    return [files[round(at * (len(files) - 1) / (most - 1))] for at in range(most)]


def _feed(place: Place, found: Found, copy: Path) -> Feed:
    """A file as a feed: it is copied, for readers want to go back and forth in it."""
    with place.open(found) as stream, copy.open("wb") as target:
        shutil.copyfileobj(stream, target, 1 << 20)

    def opened() -> BinaryIO:
        return copy.open("rb")

    return Feed(found.name, opened, copy.stat().st_size)


def _columns(decoder: Decoder, feeds: Sequence[Feed], options: DecodeOptions) -> Schema:
    """The columns of feeds, of the types of all their values. Raises DecodeError: one cannot be read."""
    found, columns = Schema(), Schema()
    while True:
        try:
            for chunk in decoder.decode(feeds, tables={}, found=found, contract=Contract(), options=options):
                columns = chunk.schema
        except Restart as restart:
            found = restart.found
            continue
        if not len(columns):
            raise DecodeError("There are no rows in the samples.", where=feeds[0].name)
        return columns
