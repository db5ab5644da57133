"""Archived files as they were received: whole, or a range of their bytes; decrypted on the way.

What can be had are the parts that a batch's manifests name, by exactly the path that they name: no other path leads
anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from tidemill.model.batch import Part
from tidemill.model.errors import UnknownName
from tidemill.web.problems import Unwelcome
from tidemill.web.table import Asked

_CHUNK = 256 << 10
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def download(asked: Asked) -> Response:
    """One archived file of a batch: bytes as they were received."""
    part = _part(asked)
    tag = f'"{part.sha256}"'
    headers = {
        "ETag": tag, "Accept-Ranges": "bytes", "Content-Disposition": disposition(part.name),
        "Cache-Control": "private, no-cache",
    }  # fmt: skip
    given = asked.request.headers
    if tag in re.findall(r'"[^"]*"', given.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    chosen = _range(given.get("range"), part.bytes) if given.get("if-range", tag) == tag else None
    begin, end = chosen or (0, part.bytes)
    if chosen is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{part.bytes}"
    headers["Content-Length"] = str(end - begin)
    stream = asked.backend.archive.open(part)
    return StreamingResponse(
        _bytes(stream, begin, end), 200 if chosen is None else 206, headers, "application/octet-stream"
    )


def disposition(name: str) -> str:
    """The header that lets a browser keep a file under its own name, whatever that is."""
    plain = re.sub(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", name.replace("\\", "/"))
    own = plain.rpartition("/")[2].lstrip(".")[-150:] or "file"
    fallback = re.sub(r"[^A-Za-z0-9._-]", "_", own)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(own, safe='', errors='replace')}"


def _part(asked: Asked) -> Part:
    batch_id, path = asked.path["batch_id"], asked.path["path"]
    with asked.backend.metadata.read() as tx:
        known: dict[str, Part] = {part.path: part for one in tx.archive.recent(batch_id=batch_id) for part in one.parts}
    if path not in known:
        raise UnknownName(f'Batch {batch_id} has no archived file "{path[:200]}".', hint=f"batches/{batch_id} has them")
    return known[path]


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """The range that is asked for; None: everything. Raises Unwelcome: there is no such range."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]):
        return None  # several ranges, or other units: the whole is an answer, too
    if found[1]:
        begin, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
    else:
        begin, end = max(0, size - int(found[2])), size
    if begin >= end:
        headers = {"Content-Range": f"bytes */{size}"}
        raise Unwelcome(416, f"The file has {size} bytes.", kind="range", headers=headers)
    return begin, end


def _bytes(stream: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    with stream:
        stream.seek(begin)
        while begin < end:
            found = stream.read(min(_CHUNK, end - begin))
            if not found:
                raise OSError("an archived file is shorter than it was")
            begin += len(found)
            yield found
