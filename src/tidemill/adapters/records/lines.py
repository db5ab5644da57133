"""Reading back what `encoder.py` wrote as lines of JSON: the rows that failed a check, as they were kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import zstandard


def read_lines(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """The records of a file of JSON lines under zstd."""
    with zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True) as unpacked:
        for line in io.TextIOWrapper(unpacked, encoding="utf-8"):
            yield json.loads(line)
