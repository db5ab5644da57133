"""Makes the bench's inputs, each in a folder with a `spec.json` that says what a right load of it holds.

    python bench/inputs.py NAME ROWS DATA       # called by load.py in a process of its own

`flat` and `nested` are the common case. The others are nobody's fast path: many columns, long strings, mostly
nulls, a column that appears late, many small files. Everything is computed from the row's number by DuckDB's
`hash`, so that the same call makes the same data.

The checks in a spec are SQL expressions (DuckDB's dialect) over the loaded tables with the values that they must
have; they were computed from the generating table, never from the file that peers read.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

#: Columns of the flat rows, as SELECT items over `i`, the row's number.
FLAT = {
    "id": "i",
    "ts": "timestamp '2026-01-01' + interval (i) second",
    "user_id": "(hash(i) % 100000)::bigint",
    "event": "['click', 'view', 'buy', 'refund', 'login'][1 + (hash(i + 7) % 5)::int]",
    "amount": "round((hash(i + 3) % 1000000) / 100.0, 2)::double",
    "country": "['IT', 'UK', 'US', 'JP', 'DE', 'BR'][1 + (hash(i + 9) % 6)::int]",
    "ok": "hash(i + 5) % 2 = 0",
    "qty": "(hash(i + 11) % 50)::int",
    "note": "case when hash(i + 13) % 10 = 0 then null else 'note ' || md5(i::varchar) end",
    "label": "case when hash(i + 17) % 20 = 0 then 'リミニ会議' else 'plain' end",
}


def _sum(column: str) -> str:
    return f"sum({column}::hugeint)"


def _cents(column: str) -> str:
    return f"sum(round({column}::double * 100)::hugeint)"


def _text(column: str) -> str:
    return f"count({column}) || ' values, ' || coalesce(sum(length({column})), 0) || ' characters'"


FLAT_CHECKS = {
    "rows": "count(*)",
    "id": _sum("id"),
    "ts": "min(ts::timestamp) || ' to ' || max(ts::timestamp)",
    "user_id": _sum("user_id"),
    "event": "count(distinct event) || ' ' || min(event) || ' ' || max(event)",
    "amount": _cents("amount"),
    "country": _text("country"),
    "ok": "count(*) filter (where ok::boolean)",
    "qty": _sum("qty"),
    "note": _text("note"),
    "label": _text("label"),
}

Expected = dict[str, dict[str, tuple[str, str]]]


class Maker:
    """Makes one input: holds the generating connection, the folder, and what was found."""

    def __init__(self, folder: Path, rows: int) -> None:
        import duckdb  # here: only the process that makes an input needs it, not the one that lists them

        self.folder = folder
        self.rows = rows
        self.db = duckdb.connect()
        self.db.execute("set TimeZone = 'UTC'")
        self.expected: Expected = {}

    def table(self, columns: dict[str, str], rows: int | None = None) -> None:
        """Create the generating table `t`, one row for each number."""
        items = ", ".join(f'{sql} as "{name}"' for name, sql in columns.items())
        self.db.execute(f"create table t as select {items} from range({rows or self.rows}) r(i)")

    def expect(self, checks: dict[str, str], source: str = "t", child: str = "") -> None:
        """Note what a loaded table must give; `child` is "" for the input's own table."""
        values = self.db.execute(f"select {', '.join(checks.values())} from {source}").fetchall()[0]
        self.expected[child] = {
            label: (sql, str(value)) for (label, sql), value in zip(checks.items(), values, strict=True)
        }

    def copy(self, query: str, name: str) -> None:
        """Write a query's rows to a file: JSON Lines or CSV, gzipped, by its name."""
        options = "format json" if ".jsonl" in name else "format csv, header"
        packed = ", compression gzip" if name.endswith(".gz") else ""
        self.db.execute(f"copy ({query}) to '{self.folder / name}' ({options}{packed})")


def flat_jsonl(make: Maker) -> None:
    """Ten columns, one JSON object a line."""
    make.table(FLAT)
    make.expect(FLAT_CHECKS)
    make.copy("from t", "rows.jsonl.gz")


def flat_csv(make: Maker) -> None:
    """The same rows as CSV with a header."""
    make.table(FLAT)
    make.expect(FLAT_CHECKS)
    make.copy("from t", "rows.csv.gz")


def nested_jsonl(make: Maker) -> None:
    """A struct in a struct, a list of structs and a list of texts: a parent and two child tables."""
    make.table(FLAT)
    price = "round(((id * 13 + k) % 10000) / 100.0, 2)"
    item = f"{{'sku': 'S' || ((id * 7 + k) % 1000), 'qty': ((id + k) % 5)::int, 'price': {price}}}"
    address = "{'city': country || ' city', 'zip': (user_id % 99999)::varchar}"
    make.db.execute(f"""create table n as select id, ts, event, amount,
        {{'id': user_id, 'name': 'user ' || user_id, 'addr': {address}}} as "user",
        [{item} for k in range((id % 4)::bigint)] as items,
        ['a', 'b'][1:(id % 3)::int] as tags
        from t""")
    parent = """(select id, ts, event, amount, "user".id as user__id, "user".name as user__name,
        "user".addr.city as user__addr__city, "user".addr.zip as user__addr__zip from n)"""
    make.expect(
        {
            **{label: FLAT_CHECKS[label] for label in ("rows", "id", "ts", "event", "amount")},
            "user__id": _sum("user__id"),
            **{name: _text(name) for name in ("user__name", "user__addr__city", "user__addr__zip")},
        },
        parent,
    )
    make.expect(
        {"rows": "count(*)", "sku": _text("sku"), "qty": _sum("qty"), "price": _cents("price")},
        "(select unnest(items, recursive := true) from n)",
        "items",
    )
    make.expect(
        {"rows": "count(*)", "value": "min(value) || max(value)"}, "(select unnest(tags) as value from n)", "tags"
    )
    make.copy("from n", "rows.jsonl.gz")


def wide_jsonl(make: Maker) -> None:
    """Sixty columns of five types."""
    columns = {"id": "i"}
    for n in range(59):
        columns[f"column_{n:02}"] = (
            f"(hash(i + {n}) % 1000000007)::bigint",
            f"round((hash(i + {n}) % 100000000) / 1000.0, 3)::double",
            f"md5((i + {n})::varchar)",
            f"hash(i + {n}) % 3 = 0",
            f"timestamp '2020-01-01' + interval (hash(i + {n}) % 100000000) second",
        )[n % 5]
    make.table(columns)
    make.expect({
        "rows": "count(*)", "id": _sum("id"), "column_00": _sum("column_00"), "column_01": _cents("column_01"),
        "column_02": _text("column_02"), "column_03": "count(*) filter (where column_03::boolean)",
        "column_04": "min(column_04::timestamp) || ' to ' || max(column_04::timestamp)",
        "column_57": _text("column_57"),
    })  # fmt: skip
    make.copy("from t", "rows.jsonl.gz")


def long_jsonl(make: Maker) -> None:
    """Texts of 2 to 14 thousand characters, with quotes, line ends and letters beyond ASCII."""
    pieces = "[md5((i * 1000 + k)::varchar) || ' \"é\"\n' for k in range({length})]"
    body = f"array_to_string({pieces.format(length='(50 + hash(i) % 300)::bigint')}, '')"
    make.table({"id": "i", "title": "'title ' || md5(i::varchar)", "body": body})
    make.expect({"rows": "count(*)", "id": _sum("id"), "title": _text("title"), "body": _text("body")})
    make.copy("from t", "rows.jsonl.gz")


def nulls_jsonl(make: Maker) -> None:
    """Twenty columns, nine values in ten missing: written as null."""
    columns = {"id": "i"}
    for n in range(19):
        value = (
            f"(hash(i + {n}) % 1000)::bigint",
            f"round((hash(i + {n}) % 1000) / 100.0, 2)::double",
            f"md5({n}::varchar || i)",
        )[n % 3]
        columns[f"column_{n:02}"] = f"case when hash(i * 31 + {n}) % 10 = 0 then {value} end"
    make.table(columns)
    make.expect({
        "rows": "count(*)", "id": _sum("id"), "column_00": _sum("column_00"), "column_01": _cents("column_01"),
        "column_02": _text("column_02"), "column_18": "count(column_18)",
    })  # fmt: skip
    make.copy("from t", "rows.jsonl.gz")


def late_jsonl(make: Maker) -> None:
    """The flat rows, of which the last tenth has a column that the others have not, not even as null."""
    make.table({**FLAT, "coupon": f"case when i >= {make.rows * 9 // 10} then 'coupon ' || (i % 100) end"})
    make.expect({**FLAT_CHECKS, "coupon": _text("coupon")})
    make.copy("select * exclude coupon from t where coupon is null", "early.jsonl")
    make.copy("from t where coupon is not null", "late.jsonl")
    with gzip.open(make.folder / "rows.jsonl.gz", "wb", compresslevel=6) as whole:
        for name in ("early.jsonl", "late.jsonl"):
            with (make.folder / name).open("rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)
            (make.folder / name).unlink()


def many_jsonl(make: Maker) -> None:
    """The flat rows in 200 files."""
    make.table(FLAT)
    make.expect(FLAT_CHECKS)
    for n in range(200):
        make.copy(f"from t where id % 200 = {n}", f"part-{n:03}.jsonl.gz")


#: name -> (maker, share of the asked number of rows that gives an input of comparable size).
INPUTS: dict[str, tuple[Callable[[Maker], None], float]] = {
    "flat.jsonl": (flat_jsonl, 1),
    "flat.csv": (flat_csv, 1),
    "nested.jsonl": (nested_jsonl, 1),
    "wide.jsonl": (wide_jsonl, 0.2),
    "long.jsonl": (long_jsonl, 0.02),
    "nulls.jsonl": (nulls_jsonl, 0.5),
    "late.jsonl": (late_jsonl, 1),
    "many.jsonl": (many_jsonl, 0.2),
}


def spec_path(name: str, rows: int, data: Path) -> Path:
    """Where under `data` the spec of an input of so many rows is; its files are beside it."""
    return data / f"{name}_{rows}" / "spec.json"


def make(name: str, rows: int, data: Path) -> None:
    """Make an input of exactly `rows` rows."""
    path = spec_path(name, rows, data)
    folder = path.parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    maker = Maker(folder, rows)
    INPUTS[name][0](maker)
    files = sorted(folder.glob("*.gz"))
    spec: dict[str, Any] = {
        "name": name,
        "rows": rows,
        "format": "csv" if name.endswith("csv") else "jsonl",
        "files": [str(path) for path in files],
        "bytes": sum(path.stat().st_size for path in files),
        "unpacked": unpacked(files),
        "tables": maker.expected,
    }
    path.write_text(json.dumps(spec, indent=1, ensure_ascii=False), encoding="utf-8")


def unpacked(files: Iterable[Path]) -> int:
    """Bytes of the files' content."""
    total = 0
    for path in files:
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                total += len(block)
    return total


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
