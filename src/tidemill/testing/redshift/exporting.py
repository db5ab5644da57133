"""What an UNLOAD does: the rows of a query, cut among the slices, as files in S3. Page "UNLOAD"."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from tidemill.adapters.redshift.columnar import write_parquet, zstd
from tidemill.testing.redshift.faults import Fault, unknown, wrong
from tidemill.testing.redshift.rewriting import rewritten
from tidemill.testing.redshift.storage import Storage
from tidemill.testing.redshift.tokens import tokens
from tidemill.testing.redshift.unloading import Unload
from tidemill.testing.redshift.wire import Backend, Field

Row = Sequence["str | None"]
#: PostgreSQL's types by their OIDs: Redshift's name, and how Parquet keeps it.
_TYPES = {
    16: ("boolean", "bool"), 21: ("smallint", "int16"), 23: ("integer", "int32"), 20: ("bigint", "int64"),
    700: ("real", "float"), 701: ("double precision", "double"), 1043: ("character varying", "string"),
    1042: ("character", "string"), 25: ("character varying", "string"), 1082: ("date", "date"),
    1114: ("timestamp without time zone", "timestamp"), 1184: ("timestamp with time zone", "timestamp"),
    17: ("binary varying", "binary"), 3802: ("super", "string"), 19: ("character varying", "string"),
    1083: ("time without time zone", "string"), 1266: ("time with time zone", "string"), 1700: ("numeric", "decimal"),
}  # fmt: skip
_PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.compress),
    "bzip2": (".bz2", bz2.compress),
    "zstd": (".zst", zstd),
}


def unload(given: Unload, backend: Backend, storage: Storage, slices: int) -> int:
    """Write the files; gives the number of rows.

    Raises:
        Fault: the query fails, files are there already, or the store refuses.
    """
    first = next(iter(tokens(given.query)), None)
    if first is None or not first.is_word("select", "with"):
        raise wrong("UNLOAD needs a SELECT")
    _refuse_limit(given.query)
    answer = backend.ask(rewritten(given.query))
    parallel = given.options.get("parallel", True)
    parts = [answer.rows[n::slices] for n in range(slices)] if parallel else [answer.rows]
    kinds = [_kind(one) for one in answer.fields]
    contents = {}
    for number, rows in enumerate(parts):
        if rows or not number:
            part = f"{number:04d}_part_00" if parallel else "000"
            contents[f"{given.url}{part}{_extension(given)}"] = (_content(given, answer.fields, rows), len(rows))
    _make_way(given, storage, [*contents, f"{given.url}manifest"])
    for url, (content, _) in contents.items():
        storage.write(url, content)
    if given.has("manifest"):
        storage.write(f"{given.url}manifest", _manifest(given, contents, answer.fields, kinds))
    return len(answer.rows)


def _refuse_limit(query: str) -> None:
    depth = 0
    for token in tokens(query):
        depth += token.is_sign("(") - token.is_sign(")")
        if not depth and token.is_word("limit"):
            raise wrong("Limit clause is not supported")


def _kind(one: Field) -> tuple[str, str]:
    if one.oid not in _TYPES:
        raise unknown(f"UNLOAD of a column of type {one.oid}")
    name, kept = _TYPES[one.oid]
    if name == "numeric":
        size, scale = ((one.modifier - 4) >> 16, (one.modifier - 4) & 0x7FF) if one.modifier >= 4 else (38, 10)
        return f"numeric({size},{scale})", f"decimal({size},{scale})"
    return name, kept


def _extension(given: Unload) -> str:
    if given.has("extension"):
        return f".{given.options['extension']}"
    if given.format == "parquet":
        return ".parquet"
    # Text has no extension of its own, nor have CSV and JSON unless UNLOAD is asked for one.
    return next((ending for option, (ending, _) in _PACKED.items() if given.has(option)), "")


def _make_way(given: Unload, storage: Storage, urls: Sequence[str]) -> None:
    there = storage.list(given.url)
    if given.has("cleanpath"):
        for url in there:
            storage.delete(url)
    elif there and not given.has("allowoverwrite") and set(there) & set(urls):
        raise Fault(
            "Specified unload destination on S3 is not empty. Consider using a different bucket / prefix, manually"
            f" removing the target files in S3, or using the ALLOWOVERWRITE option: {there[0]}"
        )


def _content(given: Unload, fields: Sequence[Field], rows: Sequence[Row]) -> bytes:
    if given.format == "parquet":
        kinds = [_kind(one) for one in fields]
        columns = [(one.name, kept) for one, (_, kept) in zip(fields, kinds, strict=True)]
        return write_parquet(columns, [[_native(v, k) for v, (_, k) in zip(r, kinds, strict=True)] for r in rows])
    if given.format == "json":
        text = "".join(_json_line(fields, row) for row in rows)
    else:
        shown = [[_plain(v, one) for v, one in zip(row, fields, strict=True)] for row in rows]
        if given.has("header"):
            shown = [[one.name for one in fields], *shown]
        text = _csv(given, shown) if given.format == "csv" else _delimited(given, shown)
    content = text.encode()
    return next((pack(content) for option, (_, pack) in _PACKED.items() if given.has(option)), content)


def _plain(value: str | None, one: Field) -> str | None:
    return value[2:] if value is not None and one.oid == 17 else value


def _native(value: str | None, kept: str) -> Any:
    if value is None:
        return None
    if kept == "bool":
        return value == "t"
    if kept.startswith("int"):
        return int(value)
    if kept in ("float", "double"):
        return float(value)
    if kept.startswith("decimal"):
        return Decimal(value)
    if kept == "date":
        return dt.date.fromisoformat(value)
    if kept == "timestamp":
        made = dt.datetime.fromisoformat(value)
        return made if made.tzinfo is None else made.astimezone(dt.UTC).replace(tzinfo=None)
    return bytes.fromhex(value[2:]) if kept == "binary" else value


def _json_line(fields: Sequence[Field], row: Row) -> str:
    made = []
    for one, value in zip(fields, row, strict=True):
        name, _ = _kind(one)
        plain = _plain(value, one)
        raw = plain is not None and (name == "super" or (name.startswith(_NUMERIC) and plain[-1:].isdecimal()))
        made.append(
            f"{json.dumps(one.name, ensure_ascii=False)}:{plain if raw else json.dumps(plain, ensure_ascii=False)}"
        )
    return "{" + ",".join(made) + "}\n"


_NUMERIC = ("smallint", "integer", "bigint", "numeric", "real", "double")


def _csv(given: Unload, rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=given.options.get("delimiter", ","), lineterminator="\n")
    null = given.options.get("null", "")
    for row in rows:
        writer.writerow([null if value is None else value for value in row])
    return buffer.getvalue()


def _delimited(given: Unload, rows: Sequence[Row]) -> str:
    delimiter, null = given.options.get("delimiter", "|"), given.options.get("null", "")

    def shown(value: str | None) -> str:
        if value is None:
            return str(null)
        if given.has("escape"):
            signs = ("\\", "\n", "\r", delimiter, *(('"', "'") if given.has("addquotes") else ()))
            for sign in signs:
                value = value.replace(sign, "\\" + sign)
        return f'"{value}"' if given.has("addquotes") else value

    return "".join(delimiter.join(map(shown, row)) + "\n" for row in rows)


def _manifest(
    given: Unload, contents: dict[str, tuple[bytes, int]], fields: Sequence[Field], kinds: Sequence[tuple[str, str]]
) -> bytes:
    entries: list[dict[str, Any]] = [
        {"url": url, "meta": {"content_length": len(content)}} for url, (content, _) in contents.items()
    ]
    made: dict[str, Any] = {"entries": entries}
    if given.options["manifest"] == "verbose":
        for entry, (_, rows) in zip(entries, contents.values(), strict=True):
            entry["meta"]["record_count"] = rows
        elements = [{"name": one.name, "type": {"base": kind}} for one, (kind, _) in zip(fields, kinds, strict=True)]
        made["schema"] = {"elements": elements}
        made["meta"] = {
            "content_length": sum(len(content) for content, _ in contents.values()),
            "record_count": sum(rows for _, rows in contents.values()),
        }
        made["author"] = {"name": "Amazon Redshift", "version": "1.0.0"}
    return json.dumps(made, indent=2).encode()
