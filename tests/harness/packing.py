"""Archives for tests, and their rows as a load decodes them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

from tidemill.adapters.arrow.decoder import ArrowDecoder
from tidemill.model.table import Contract, Schema
from tidemill.ports.decoder import DecodeOptions, Feed, Restart

Members = list[tuple[str, bytes]]


def zipped(members: Members, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members: Members, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


PACKERS: dict[str, Callable[[Members], bytes]] = {
    "zip": zipped,
    "stored.zip": lambda members: zipped(members, zipfile.ZIP_STORED),
    "tar": tarred,
    "tar.gz": lambda members: tarred(members, "w:gz"),
    "tar.bz2": lambda members: tarred(members, "w:bz2"),
}


def decode(content: bytes, name: str = "in.zip", **options: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """All rows, and those that were rejected; as a load does it."""
    found = Schema()
    while True:
        rows: list[dict[str, Any]] = []
        rejected: list[Any] = []
        try:
            for chunk in ArrowDecoder().decode(
                [Feed(name, lambda: io.BytesIO(content), len(content))],
                tables={},
                found=found,
                contract=Contract(),
                options=DecodeOptions(**options),
            ):
                rejected += chunk.rejected
                if chunk.batch is not None:
                    rows += chunk.batch.to_pylist()
            return rows, rejected
        except Restart as restart:
            found = restart.found
