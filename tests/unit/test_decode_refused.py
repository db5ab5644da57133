"""What the decoder does not take is refused in words, never read as something else."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.adapters.arrow.decoder import ArrowDecoder
from tidemill.model.errors import DecodeError, DefinitionError
from tidemill.model.table import Contract, Schema
from tidemill.ports.decoder import DecodeOptions, Feed


def decode(content: bytes, name: str, **options: Any) -> list[Any]:
    feed = Feed(name, lambda: io.BytesIO(content), len(content))
    return list(
        ArrowDecoder().decode([feed], tables={}, found=Schema(), contract=Contract(), options=DecodeOptions(**options))
    )


def test_a_parquet_feed_is_refused_by_name() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), out)
    with pytest.raises(DecodeError, match=r"x.parquet is Parquet, which feeds cannot be yet"):
        decode(out.getvalue(), "x.parquet")


def test_an_avro_feed_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match=r"x.avro is Avro, which feeds cannot be yet"):
        decode(b"Obj\x01" + bytes(64), "x.avro")


@pytest.mark.parametrize("options", [{"flatten": True}, {"jsonpaths": {"a": "$.b"}}])
def test_taking_feeds_apart_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="yet"):
        decode(b'{"a": 1}', "x.jsonl", **options)
