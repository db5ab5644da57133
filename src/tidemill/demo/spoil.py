"""Spoils a day's feed as feeds are spoilt in real life: one airline's delays in another unit, lines that broke.

The demo says that it did it. The damage is the same each time, byte for byte.
"""

from __future__ import annotations

import csv
import gzip
import io

from tidemill.demo.year import pack

#: JetBlue, and how many seconds are in a minute.
CARRIER, FACTOR = "B6", 60
#: Lines of the file, the header being the first: two are cut off in the middle, one has a text for a number.
_CUT = (101, 401)
_TEXT = 702
BROKEN = len(_CUT) + 1


def spoilt(feed: bytes) -> bytes:
    """A packed CSV feed with `CARRIER`'s delays in seconds, and `BROKEN` lines that cannot be read."""
    header, *rows = csv.reader(io.StringIO(gzip.decompress(feed).decode("utf-8"), newline=""))
    carrier = header.index("carrier")
    for row in rows:
        if row[carrier] == CARRIER:
            for column in map(header.index, ("dep_delay", "arr_delay")):
                row[column] = row[column] and str(int(row[column]) * FACTOR)
    for line in _CUT:
        del rows[line - 2][7:]
    rows[_TEXT - 2][header.index("distance")] = "unknown"
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return pack(out.getvalue().encode("utf-8"))
