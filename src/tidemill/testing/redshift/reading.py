"""The files of a COPY as records: for each its line, the fields of the columns, and the line as it stood.

Pages "COPY from JSON format", "Data format parameters", "File compression parameters".
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.adapters.redshift.columnar import avro_records, parquet_columns, unzstd
from tidemill.model.errors import DecodeError
from tidemill.testing.redshift.copying import Copy
from tidemill.testing.redshift.faults import Fault, unknown
from tidemill.testing.redshift.types import Type
from tidemill.testing.redshift.values import BadValue

#: Bytes that one row may have.
LARGEST_ROW = 4 << 20
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[\s*'([^']*)'\s*\]|\[\s*\"([^\"]*)\"\s*\]|\[\s*(\d+)\s*\]")


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a file.

    Args:
        line: where it ends, from 1.
        fields: of the columns, in their order: text; None where it is null; bad values where it cannot be read.
        raw: as it stood.
        bad: why the row as a whole cannot be read.
    """

    line: int
    fields: Sequence[str | None]
    raw: str = ""
    bad: BadValue | None = None


class _Number(str):
    """A number of JSON, as it is written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Target:
    """The columns that a COPY fills, in its order."""

    names: tuple[str, ...]
    types: tuple[Type, ...]


def records(copy: Copy, target: Target, content: bytes, paths: Sequence[str] | None) -> Iterator[Record]:
    """The records of a file.

    Args:
        copy: the statement.
        target: the columns.
        content: of the file.
        paths: of the JSONPaths file, where there is one.

    Raises:
        Fault: the file as a whole cannot be read.
    """
    try:
        if copy.format == "parquet":
            yield from _parquet(target, content, copy)
        elif copy.format == "avro":
            for number, record in enumerate(avro_records(content), 1):
                yield Record(number, _picked(copy, target, paths)(record), json.dumps(record, default=str))
        elif copy.format == "json":
            yield from _json(copy, target, _text(copy, content), paths)
        else:
            yield from _lines(copy, target, _text(copy, content))
    except DecodeError as error:
        raise Fault(f"Invalid file: {error.what}", "XX000") from None


def _text(copy: Copy, content: bytes) -> str:
    try:
        if copy.has("gzip"):
            content = gzip.decompress(content)
        elif copy.has("bzip2"):
            content = bz2.decompress(content)
        elif copy.has("zstd"):
            content = unzstd(content)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise Fault(f"The compressed file cannot be read: {error}", "XX000") from None
    encoding = {"utf16": "utf-16", "utf16le": "utf-16-le", "utf16be": "utf-16-be"}.get(copy.options.get("encoding", ""))
    if copy.has("acceptinvchars"):
        sign = copy.options["acceptinvchars"]
        return "".join(
            sign if "\udc80" <= one <= "\udcff" else one for one in content.decode("utf-8", "surrogateescape")
        )
    # What is no UTF-8 is judged field by field, so that the error has its place.
    return content.decode(encoding) if encoding else content.decode("utf-8", "surrogateescape")


# -- JSON and Avro -----------------------------------------------------------------------------------------


def _json(copy: Copy, target: Target, text: str, paths: Sequence[str] | None) -> Iterator[Record]:
    decoder = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_bad_constant)
    pick = _picked(copy, target, paths)
    at, line, counted = 0, 1, 0
    while True:
        at = _after_space(text, at)
        if at >= len(text):
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line += text.count("\n", counted, end)
            yield Record(line, (), text[at:end], BadValue(1224, "Invalid JSON format"))
            at = counted = end
            continue
        line += text.count("\n", counted, end)
        counted, raw = end, text[at:end]
        at = end
        if len(raw.encode("utf-8", "surrogateescape")) > LARGEST_ROW:
            yield Record(line, (), raw, BadValue(1224, "JSON object is larger than 4 MB"))
        elif not isinstance(value, dict | list):
            yield Record(line, (), raw, BadValue(1224, "A row must be a JSON object or array"))
        else:
            yield Record(line, pick(value), raw)


def _bad_constant(name: str) -> Any:
    raise ValueError(name)


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n\ufeff":
        at += 1
    return at


def _picked(copy: Copy, target: Target, paths: Sequence[str] | None) -> Callable[[Any], list[str | None]]:
    """What makes the fields of a record."""
    if copy.how == "noshred":
        if len(target.names) != 1 or target.types[0].name != "super":
            raise Fault("noshred needs a table with one column of type SUPER", "42601")
        return lambda record: [_shown(record, target.types[0])]
    if paths is not None:
        if len(paths) != len(target.names):
            raise Fault(
                f"Number of jsonpaths and the number of columns should match. JSONPath size: {len(paths)}, Number of"
                f" columns in table or column list: {len(target.names)}",
                "XX000",
            )
        steps = [_steps(path) for path in paths]
        return lambda record: [_shown(_at(record, way), kind) for way, kind in zip(steps, target.types, strict=True)]

    def by_name(record: Any) -> list[str | None]:
        if isinstance(record, list):
            raise Fault("JSON 'auto' needs objects: arrays are mapped by a JSONPaths file", "XX000")
        given: Mapping[str, Any] = record
        if copy.how == "auto ignorecase":
            given = {name.lower(): value for name, value in record.items()}
        return [_shown(given.get(name), kind) for name, kind in zip(target.names, target.types, strict=True)]

    return by_name


def _shown(value: Any, kind: Type) -> str | None:
    """A value of JSON or Avro as a field; what nests as JSON."""
    if value is None:
        return None
    if kind.name == "super" and not isinstance(value, _Number | float | int):
        return _dumped(value)
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return str(value)
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case dict() | list():
            return _dumped(value)
    return str(value)


def _dumped(value: Any) -> str:
    """JSON, with numbers as they were written."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{_dumped(one)}" for name, one in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_dumped, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def json_paths(content: bytes) -> list[str]:
    """The paths of a JSONPaths file. Raises Fault: it is none."""
    try:
        found = json.loads(content)["jsonpaths"]
    except (ValueError, KeyError, TypeError):
        raise Fault('Invalid JSONPaths file: it must be an object with an array "jsonpaths"', "XX000") from None
    for path in found:
        _steps(path)
    return list(found)


def _steps(path: Any) -> list[str | int]:
    if not isinstance(path, str) or not path.startswith("$") or path == "$":
        raise Fault(f"Invalid JSONPath format: {path}", "XX000")
    made: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise Fault(
                f"Invalid JSONPath format. Supported notations are 'dot-notation' and 'bracket-notation': {path}"
            )
        name = next((one for one in found.groups()[:3] if one is not None), None)
        made.append(int(found[4]) if name is None else name)
        at = found.end()
    return made


def _at(record: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(step, int):
            record = record[step] if isinstance(record, list) and step < len(record) else None
        else:
            record = record.get(step) if isinstance(record, dict) else None
    return record


# -- Parquet -----------------------------------------------------------------------------------------------

#: Arrow's types that a column takes; lengths and digits apart.
_TAKES = {
    "smallint": ("int16", "int8", "uint8"), "integer": ("int32", "int16", "uint16"),
    "bigint": ("int64", "int32", "uint32"), "real": ("float",), "double precision": ("double",),
    "boolean": ("bool",), "character varying": ("string", "large_string"), "character": ("string", "large_string"),
    "date": ("date32[day]",), "varbyte": ("binary",),
    "timestamp without time zone": ("timestamp[us]", "timestamp[ms]", "timestamp[ns]"),
    "timestamp with time zone": ("timestamp[us, tz=UTC]", "timestamp[ms, tz=UTC]"),
}  # fmt: skip


def _parquet(target: Target, content: bytes, copy: Copy) -> Iterator[Record]:
    columns, rows = parquet_columns(content)
    if len(columns) != len(target.names) and not (copy.has("fillrecord") and len(columns) < len(target.names)):
        raise Fault(
            f"Number of columns in the file ({len(columns)}) and in the table or list ({len(target.names)}) differ"
        )
    for (name, arrow), kind in zip(columns, target.types, strict=False):
        _fits(name, arrow, kind, copy)
    filled: list[str | None] = [None] * (len(target.names) - len(columns))
    for number, row in enumerate(rows, 1):
        shown = [_of_parquet(value, kind) for value, kind in zip(row, target.types, strict=False)]
        yield Record(number, [*shown, *filled])


def _fits(name: str, arrow: str, kind: Type, copy: Copy) -> None:
    if kind.name == "super":
        if arrow.startswith(("struct", "list", "map")) and copy.has("serializetojson"):
            return
        raise Fault(f"Column {name} has type {arrow}; a SUPER column takes nested ones, with SERIALIZETOJSON")
    if kind.name == "numeric" and (found := re.fullmatch(r"decimal128\((\d+), (\d+)\)", arrow)):
        if int(found[1]) > (kind.size or 0) or int(found[2]) != kind.scale:
            raise Fault(f"Spectrum Scan Error: column {name} has an incompatible Parquet schema: {arrow} for {kind}")
        return
    if arrow not in _TAKES.get(kind.name, ()):
        raise Fault(f"Spectrum Scan Error: column {name} has an incompatible Parquet schema: {arrow} for {kind}")


def _of_parquet(value: Any, kind: Type) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.hex()
    if kind.name == "super":
        return json.dumps(value, default=str, ensure_ascii=False)
    if hasattr(value, "isoformat") and kind.name.startswith("timestamp"):
        return str(value.isoformat(" "))
    return str(value)


# -- text --------------------------------------------------------------------------------------------------


def _lines(copy: Copy, target: Target, text: str) -> Iterator[Record]:
    """Delimited text and CSV: fields in the order of the columns."""
    null = copy.options.get("null", "\\N")
    wanted = len(target.names)
    for line, found, raw in _skipped(_csv(copy, text) if copy.format == "csv" else _delimited(copy, text), copy):
        fields: list[str | None] = [None if one == null else one for one in found]
        if len(raw.encode("utf-8", "surrogateescape")) > LARGEST_ROW:
            yield Record(line, (), raw, BadValue(1224, "Row is larger than 4 MB"))
        elif len(fields) > wanted and not (len(fields) == wanted + 1 and found[-1] == "" and copy.format == "text"):
            yield Record(line, fields, raw, BadValue(1202, "Extra column(s) found"))
        elif len(fields) < wanted and not copy.has("fillrecord"):
            yield Record(line, fields, raw, BadValue(1201, "Delimiter not found"))
        else:
            filler = [
                "" if kind.name.startswith("character") and not copy.has("emptyasnull") else None
                for kind in target.types[len(fields) :]
            ]
            yield Record(line, [*fields[:wanted], *filler], raw)


def _skipped(found: Iterator[tuple[int, list[str], str]], copy: Copy) -> Iterator[tuple[int, list[str], str]]:
    header = copy.options.get("ignoreheader", 0)
    for number, one in enumerate(found):
        if number < header or (copy.has("ignoreblanklines") and not one[2].strip("\r\n")):
            continue
        yield one


def _csv(copy: Copy, text: str) -> Iterator[tuple[int, list[str], str]]:
    quote = copy.options.get("quote", '"')
    csv.field_size_limit(LARGEST_ROW)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=copy.options.get("delimiter", ","), quotechar=quote, strict=True
    )
    lines = io.StringIO(text, newline="").readlines()
    before = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise Fault(f"Invalid quote formatting for CSV, line {reader.line_num}") from None
        yield reader.line_num, row or [""], "".join(lines[before : reader.line_num])
        before = reader.line_num


def _delimited(copy: Copy, text: str) -> Iterator[tuple[int, list[str], str]]:
    delimiter = copy.options.get("delimiter", "|")
    escape, quotes = copy.has("escape"), copy.has("removequotes")
    fields, field, raw = [], "", ""
    line, at, quoted = 1, 0, ""
    if text and not text.endswith("\n"):
        text += "\n"
    while at < len(text):
        one = text[at]
        raw += one
        at += 1
        if escape and one == "\\" and at < len(text):
            raw += text[at]
            # What is escaped stands for itself, but for the default null.
            field += "\\N" if text[at] == "N" and not copy.has("null") else text[at]
            line += text[at] == "\n"
            at += 1
        elif quotes and not quoted and not field and one in "\"'":
            quoted = one
        elif quoted and one == quoted and text[at : at + 1] in (delimiter, "\n", "\r"):
            quoted = ""
        elif one == delimiter and not quoted:
            fields.append(field)
            field = ""
        elif one == "\n" and not quoted:
            yield line, [*fields, field.removesuffix("\r")], raw
            fields, field, raw = [], "", ""
            line += 1
        else:
            line += one == "\n"
            field += one
    if quoted:
        raise unknown(f"a quotation mark without an end in line {line}")
