"""Parts whose lines are no records: each of them is rejected, so that quarantine shows what was not understood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice

import pyarrow as pa

from tidemill.adapters.arrow.decoded import Decoded, Work, batch_of, raw_text
from tidemill.adapters.arrow.types import to_arrow
from tidemill.plan.known import Known
from tidemill.ports.decoder import DecodeOptions, Feed, Rejected

_LINES = 1000


def refused_work(feed: Feed, options: DecodeOptions) -> Iterator[tuple[bool, Work]]:
    """The lines of a part in blocks, and whether a block is the first.

    Lines end by a newline; what is longer than `options.max_field` is cut into pieces.
    """
    with closing(feed.open()) as stream:
        first = True
        while lines := list(islice(iter(partial(stream.readline, options.max_field), b""), _LINES)):
            yield first, partial(_refuse, lines, feed.name)
            first = False


def _refuse(lines: list[bytes], name: str, known: Known) -> Decoded:
    rejected = tuple(
        Rejected(name, number, raw_text(line.rstrip(b"\r\n")), "not a record that was understood")
        for number, line in enumerate(lines, 1)
    )
    columns = [pa.nulls(0, field.type) for field in to_arrow(known.schema)]
    return Decoded(batch_of(known.schema, columns, 0), known, rejected, len(lines))
