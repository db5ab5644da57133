"""Archives as feeds: the members of a zip or tar file, one after the other, each read as a file of its own.

Nothing is unpacked to a path that an archive names: text is read as it comes, and what must be read from its end
(Parquet, Excel) goes through a temporary file without a name. Everything is counted against the limits of the archive.
"""

from __future__ import annotations

import io
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any, BinaryIO, cast

from tidemill.adapters.arrow.compression import Peekable, unpack
from tidemill.adapters.arrow.detect import IsArchive, Opened, open_feed
from tidemill.model.errors import DecodeError, LimitError
from tidemill.plan.globs import Glob
from tidemill.ports.decoder import DecodeOptions, Feed

#: Names that tools put beside the data: no one means them.
_CLUTTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
#: What must be read more than once, or from its end, by its first bytes.
_WHOLE = (b"PAR1", b"Obj\x01", b"PK\x03\x04", b"PK\x05\x06")
#: Unpacked bytes from which the ratio is judged, as for single files.
_RATIO_FROM = 64 << 20
#: Bytes of a member that wait in memory; beyond, on the disk.
_IN_MEMORY = 16 << 20
_CHUNK = 1 << 18
_ENCRYPTED = 0x1


def opened_feeds(feed: Feed, options: DecodeOptions) -> Iterator[Opened]:
    """A feed, opened; where it is an archive, its members in their order. Each must be read before the next one.

    Raises:
        DecodeError: as `open_feed`; an archive that is damaged, truncated, encrypted or within another one; members of
            one name, links, paths that lead out.
        LimitError: more members or bytes than `options` allows.
    """
    try:
        yield open_feed(feed, options)
    except IsArchive as found:
        kind = found.kind
    else:
        return
    if kind == "zip" and _is_workbook(feed):
        yield Opened(feed, "xlsx", None, Peekable(cast(Any, io.BytesIO())))
        return
    for member in (_zip_members if kind == "zip" else _tar_members)(feed, options):
        try:
            yield open_feed(member, options)
        except IsArchive as inner:
            if inner.kind != "zip" or not _is_workbook(member):
                raise DecodeError(
                    f"{member.name} is an archive within an archive, which is not read.",
                    where=feed.name,
                    hint="pack the files themselves",
                ) from None
            yield Opened(member, "xlsx", None, Peekable(cast(Any, io.BytesIO())))


def _is_workbook(feed: Feed) -> bool:
    """Whether a zip archive is an Excel workbook: both begin alike."""
    with closing(feed.open()) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                return any(name.startswith("xl/") for name in archive.namelist())
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
            return False


@dataclass
class _Count:
    """What came out of an archive so far."""

    feed: Feed
    options: DecodeOptions
    members: int = 0
    unpacked: int = 0

    def member(self) -> None:
        """One more. Raises LimitError."""
        self.members += 1
        if self.members > self.options.max_members:
            raise LimitError(
                f"{self.feed.name} has more than {self.options.max_members:,} members.",
                where=self.feed.name,
                hint="raise max_members if it is meant to have so many",
            )

    def spend(self, size: int) -> None:
        """So many more bytes. Raises LimitError."""
        self.unpacked += size
        limit, ratio = self.options.max_unpacked, self.options.max_ratio
        over = self.unpacked > _RATIO_FROM and self.unpacked > ratio * max(self.feed.bytes, 1)
        if self.unpacked > limit or over:
            amount = f"{ratio:g} times its size" if over else f"{limit:,} bytes"
            raise LimitError(
                f"{self.feed.name} ({self.feed.bytes:,} bytes) unpacks to more than {amount}.",
                where=self.feed.name,
                hint=f"raise {'max_ratio' if over else 'max_unpacked'} if this file is meant to be so large",
            )


class _Counted(io.RawIOBase):
    """A member's bytes, counted; damage is told in our words."""

    def __init__(self, stream: IO[bytes], name: str, count: _Count) -> None:
        super().__init__()
        self._stream = stream
        self._name = name
        self._count = count

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, and no more at once than are counted."""
        wanted = _CHUNK if size is None or size < 0 else min(size, _CHUNK)
        with _damage(self._name):
            piece = self._stream.read(wanted)
        self._count.spend(len(piece))
        return piece

    def readall(self) -> bytes:
        """All of them."""
        return b"".join(iter(lambda: self.read(_CHUNK), b""))

    def close(self) -> None:
        """Close the member; the archive stays open."""
        if not self.closed:
            self._stream.close()
        super().close()


@contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, tarfile.TarError, EOFError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError):
            raise DecodeError(
                f"{name} is packed in a way that is not read: {error}.", where=name, hint="pack it by deflate"
            ) from None
        raise DecodeError(
            f"{name} is damaged or truncated: {str(error) or 'it ends too early'}.",
            where=name,
            hint="fetch the file again (--refetch)",
        ) from None
    except RuntimeError as error:
        if "password" not in str(error) and "encrypted" not in str(error):
            raise
        raise _encrypted(name) from None


def _encrypted(name: str) -> DecodeError:
    return DecodeError(f"{name} is encrypted, which is not read.", where=name, hint="feed it decrypted")


def _zip_members(feed: Feed, options: DecodeOptions) -> Iterator[Feed]:
    count = _Count(feed, options)
    with closing(feed.open()) as stream, _damage(feed.name):
        try:
            archive = zipfile.ZipFile(stream)
        except ValueError as error:  # what it makes of nonsense in the list of members
            raise zipfile.BadZipFile(str(error)) from None
    seen: set[str] = set()
    entries = []
    for info in archive.infolist():
        if info.is_dir():
            continue
        count.member()
        kind = info.external_attr >> 16
        if stat.S_ISLNK(kind) and info.create_system == 3:
            raise _refused(feed, info.filename, "is a link")
        if _is_wanted(feed, info.filename, seen, options):
            if info.flag_bits & _ENCRYPTED:
                raise _encrypted(f"{feed.name}/{info.filename}")
            entries.append(info)
    for info in entries:
        with closing(feed.open()) as stream, _damage(f"{feed.name}/{info.filename}"):
            with zipfile.ZipFile(stream) as archive, archive.open(info) as inside:
                yield from _member(feed, info.filename, info.file_size, inside, count)


def _tar_members(feed: Feed, options: DecodeOptions) -> Iterator[Feed]:
    count = _Count(feed, options)
    seen: set[str] = set()
    with closing(Peekable(feed.open())) as raw:
        # What the compression unpacks to is bounded where it is unpacked; the members are counted besides.
        _, plain = unpack(feed, raw, options)
        with _damage(feed.name), tarfile.open(fileobj=cast(IO[bytes], _Blocks(plain)), mode="r|") as archive:
            for info in archive:
                if info.isdir():
                    continue
                count.member()
                if not info.isreg():
                    raise _refused(feed, info.name, "is a link, a device or a hole")
                if not _is_wanted(feed, info.name.removeprefix("./"), seen, options):
                    continue
                inside = archive.extractfile(info)
                assert inside is not None
                yield from _member(feed, info.name.removeprefix("./"), info.size, inside, count)


class _Blocks:
    """What tarfile reads from."""

    def __init__(self, stream: Peekable) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """All of the bytes that are asked for, but at the end."""
        pieces, left = [], size
        while left and (piece := self._stream.read(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def _is_wanted(feed: Feed, name: str, seen: set[str], options: DecodeOptions) -> bool:
    """Whether a member is read. Raises DecodeError: its name is another's, or leads out."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise _refused(feed, name, "has a path that leads out of the archive")
    if name in seen:
        raise _refused(feed, name, "is in it twice")
    seen.add(name)
    if name.startswith(_CLUTTER[0]) or parts[-1] in _CLUTTER or parts[-1].startswith("._"):
        return False
    if options.members is None:
        return True
    wanted = Glob(options.members)
    return wanted.matches(name) or wanted.matches(parts[-1])


def _refused(feed: Feed, name: str, why: str) -> DecodeError:
    return DecodeError(
        f'The member "{name}" of {feed.name} {why}.', where=feed.name, hint="pack it again, or unpack it before"
    )


def _member(feed: Feed, name: str, size: int, inside: IO[bytes], count: _Count) -> Iterator[Feed]:
    """A member as a feed. It is read once, as it comes; what must be read otherwise is copied first."""
    called = f"{feed.name}/{name}"
    stream = Peekable(cast(Any, _Counted(inside, called, count)))
    head = stream.peek(4)
    base = replace(feed, name=called, bytes=size, compression=None)
    if not head.startswith(_WHOLE):
        yield replace(base, open=_once(stream))
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        while piece := stream.read(_CHUNK):
            copy.write(piece)

        def again() -> BinaryIO:
            copy.seek(0)
            return cast(BinaryIO, _Kept(copy))

        yield replace(base, open=again)


def _once(stream: Peekable) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, stream)


class _Kept(io.RawIOBase):
    """A copy that outlives its readers."""

    def __init__(self, copy: IO[bytes]) -> None:
        super().__init__()
        self._copy = copy

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        return self._copy.read(-1 if size is None else size)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; returns how far."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; returns it."""
        return self._copy.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._copy.tell()
