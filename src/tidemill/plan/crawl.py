"""What lies below a root: files become tables, folders such as `day=2026-01-01` columns, and all of it a YAML pipeline.

    files -> groups (a folder each) -> samples are decoded -> sources, compared with those of an earlier crawl

Nothing is opened here: names and the first text of a file are arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from tidemill.model.errors import DefinitionError
from tidemill.model.table import Schema
from tidemill.model.types import DOUBLE, FLOAT, INT, LONG, STRING, Decimal, Type
from tidemill.plan.path_columns import KEY, hive_values, type_of_texts

#: Extensions that are compressions, before which the format's stands.
_PACKED = ("gz", "zst", "zstd", "bz2")
_DELIMITERS = ",;\t|"
#: Lines by which a dialect is told.
_LINES = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """A file below the root, by its path there."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one table.

    Args:
        name: of the table.
        folder: below the root; empty: the root itself.
        pattern: of its files, below the root.
        files: by path.
        keys: partition columns of its folders, in order, and their types.
        trouble: why it cannot be one table; empty: it can.
    """

    name: str
    folder: str
    pattern: str
    files: tuple[Seen, ...]
    keys: Mapping[str, Type] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Crawled:
    """A table that was found, with what samples of its files say.

    Args:
        group: its files.
        format: of them.
        csv: how they are written, where that is not what is meant anyway.
        columns: those of the samples, and their types.
        sampled: how many files were read.
    """

    group: Group
    format: str
    csv: Mapping[str, Any] = field(default_factory=dict)
    columns: Schema = field(default_factory=Schema)
    sampled: int = 0


# -- files -> groups -----------------------------------------------------------------------------------------------


def groups_of(files: Iterable[Seen], called: str) -> list[Group]:
    """The tables that files below a root make: one a folder, and one of those that lie in the root itself.

    Files whose names, or whose folders' names, begin with `_` or `.` are marks of other tools, and files without a byte
    hold nothing: neither is data.

    Args:
        files: by their paths below the root.
        called: the root's name, which becomes that of its own table.
    """
    found: dict[str, list[Seen]] = {}
    for one in files:
        parts = one.path.split("/")
        if one.bytes and not any(part.startswith(("_", ".")) for part in parts):
            folder = parts[0] if len(parts) > 1 and not KEY.fullmatch(parts[0]) else ""
            found.setdefault(folder, []).append(one)
    named: dict[str, list[str]] = {}
    for folder in sorted(found):
        named.setdefault(table_name(folder or called), []).append(folder)
    return [
        _group(name if len(folders) == 1 else f"{name}_{number}", folder, found[folder])
        for name, folders in named.items()
        for number, folder in enumerate(folders, start=1)
    ]


def table_name(text: str) -> str:
    """A name for a table, of a folder's."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "files"
    return (f"t_{plain}" if plain[0].isdigit() else plain)[:60]


def _group(name: str, folder: str, files: Sequence[Seen]) -> Group:
    paths = sorted(files, key=lambda one: one.path)
    values = [hive_values(one.path) for one in paths]
    keys = {key: type_of_texts([one.get(key) for one in values]) for key in values[0]}
    ends = {_ending(one.path) for one in paths}
    begin = f"{folder}/" if folder else ""
    # A folder that has data of one kind may have other files, too: these are left out by the pattern.
    pattern = f"{begin}**/*{ends.pop() if len(ends) == 1 else ''}"
    made = Group(name, folder, pattern, tuple(paths), keys)
    if any(list(one) != list(values[0]) for one in values):
        other = next(p for p, one in zip(paths, values, strict=True) if list(one) != list(values[0]))
        return replace(made, trouble=f"its folders are not partitioned alike: {paths[0].path}, {other.path}")
    formats = {_format(end) for end in {_ending(one.path) for one in paths}}
    if len(formats) > 1:
        return replace(made, trouble=f"files of several formats: {', '.join(sorted(formats))}")
    return made


def _ending(path: str) -> str:
    """`.csv.gz`: the extension, with that of a compression."""
    parts = path.rsplit("/", 1)[-1].split(".")[1:]
    kept = parts[-2:] if parts and parts[-1].lower() in _PACKED else parts[-1:]
    return "".join(f".{part}" for part in kept)


def _format(ending: str) -> str:
    last = next((part for part in reversed(ending.lower().split(".")) if part and part not in _PACKED), "")
    return {"ndjson": "jsonl", "json": "jsonl", "tsv": "csv", "txt": "csv", "pq": "parquet"}.get(last, last)


# -- the dialect of CSV ----------------------------------------------------------------------------------------------


def dialect_of(head: bytes, named_tsv: bool = False) -> dict[str, Any]:
    """How a CSV file is written, where it is not as is meant anyway: `delimiter`, `header`, `encoding`, `decimal`.

    Args:
        head: the first bytes, unpacked.
        named_tsv: the name says that fields are parted by tabs.
    """
    made: dict[str, Any] = {}
    text = head.decode("utf-8-sig", errors="ignore")
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")) and not _is_utf8(head):
        made["encoding"] = "cp1252"
        text = head.decode("cp1252", errors="replace")
    lines = text.splitlines()[: _LINES + 1]
    lines = lines[:-1] if len(lines) > 1 and not text.endswith("\n") else lines  # it may be cut in the middle
    best = max(_DELIMITERS, key=lambda mark: _evenness(lines, mark))
    if _evenness(lines, best)[0] and best != ("\t" if named_tsv else ","):
        made["delimiter"] = best
    if any(
        re.fullmatch(r"\s*[-+]?\d[\d.,:\-/ TZ]*", cell.strip('"')) for line in lines[:1] for cell in _fields(line, best)
    ):
        made["header"] = False
    if _has_decimal_commas([_fields(line, best) for line in (lines if "header" in made else lines[1:]) if line]):
        made["decimal"] = ","
    return made


def _has_decimal_commas(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column holds numbers with commas, and none holds numbers with points.

    `1,234` says nothing: its comma may part thousands.
    """
    commas = False
    for column in zip_longest(*rows, fillvalue=""):
        values = [cell.strip('"') for cell in column if cell.strip('"')]
        if any(re.fullmatch(r"-?\d+\.\d+", value) for value in values):
            return False
        numbers = all(re.fullmatch(r"-?\d+(,\d+)?", value) for value in values)
        tells = any("," in value and not re.fullmatch(r"-?\d{1,3},\d{3}", value) for value in values)
        commas = commas or (numbers and tells)
    return commas


def _fields(line: str, mark: str) -> list[str]:
    """The fields of a line; what stands in quotes is not looked at. One that goes on in the next line counts wrong,
    and is seldom enough not to matter for what most lines say.
    """
    made, begin, quoted = [], 0, False
    for at, sign in enumerate(line):
        if sign == '"':
            quoted = not quoted
        elif sign == mark and not quoted:
            made.append(line[begin:at])
            begin = at + 1
    return [*made, line[begin:]]


def one_dialect(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The dialect of several files. Raises DefinitionError: they are written in several ways."""
    # A file may have no letter, or no fraction, that tells these.
    seldom = {name: one[name] for name in ("encoding", "decimal") for one in found if name in one}
    plain = [{name: value for name, value in one.items() if name not in seldom} for one in found]
    other = next((one for one in plain if one != plain[0]), None)
    if other is not None:
        raise DefinitionError(f"files that are written in several ways: {plain[0] or 'plain'}, {other or 'plain'}")
    return {**seldom, **plain[0]}


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # a sign was cut
    return True


def _evenness(lines: Sequence[str], mark: str) -> tuple[float, int]:
    """The share of lines that have as many fields as the first, where it has several; and how many."""
    counts = [len(_fields(line, mark)) for line in lines if line]
    if not counts or counts[0] < 2:
        return 0, 0
    return sum(one == counts[0] for one in counts) / len(counts), counts[0]


# -- sources -------------------------------------------------------------------------------------------------------

#: What happens to data that changes its columns, and the contract of the table that does it.
CONTRACTS = {"evolve": "evolve", "fail": "freeze", "ignore": "discard_columns"}


def source_of(one: Crawled, root: str, drift: str, connection: str | None) -> dict[str, Any]:
    """A source as YAML has it.

    Args:
        one: the table.
        root: the address of what was crawled, with a slash at its end.
        drift: `evolve`, `fail` or `ignore`.
        connection: by which the root is reached; None: by none.
    """
    files: dict[str, Any] = {"pattern": root + one.group.pattern, "new": True}
    if connection is not None:
        files["connection"] = connection
    made: dict[str, Any] = {"files": files, "format": one.format}
    if one.csv:
        made["csv"] = dict(one.csv)
    if one.group.keys:
        made["from_path"] = {name: str(kind) for name, kind in one.group.keys.items()}
    columns = {c.name: str(c.type) for c in one.columns if str(c.type) != "unknown" and c.name not in one.group.keys}
    return {**made, "contract": CONTRACTS[drift], "columns": columns}


@dataclass(frozen=True, slots=True)
class Drift:
    """How a table differs from what an earlier crawl has written; `columns`: those that can hold both."""

    table: str
    changes: tuple[str, ...]
    columns: Mapping[str, str]


def drift_of(table: str, known: Mapping[str, Any], made: Mapping[str, Any]) -> Drift:
    """Compare a source that is there with what was found now.

    Columns that are gone stay, and what no table could follow (`!`) is left to whoever reads of it: another format,
    other folders, a type that cannot be widened.
    """
    before, found = dict(known.get("columns") or {}), made["columns"]
    changes, columns = [], dict(before)
    for name in ("format", "csv", "from_path"):
        if (known.get(name) or {}) != made.get(name, {}):
            changes.append(f"! {name} {known.get(name)}, and now {made.get(name)}")
    for name, kind in found.items():
        if name not in before:
            changes.append(f"+ {name} {kind}")
            columns[name] = kind
            continue
        wider = _wider(before[name], kind)
        if wider is None:
            changes.append(f"! {name} {before[name]}, and now {kind}")
        elif wider != before[name]:
            changes.append(f"~ {name} {before[name]} -> {wider}")
            columns[name] = wider
    changes += [f"- {name} {kind}" for name, kind in before.items() if name not in found]
    return Drift(table, tuple(changes), columns)


def _wider(before: str, found: str) -> str | None:
    """The type that holds both; None: no type that a table could be widened to does."""
    old, new = Schema.of({"x": before})["x"].type, Schema.of({"x": found})["x"].type
    if old in (new, STRING) or (old, new) in ((LONG, INT), (DOUBLE, FLOAT), (DOUBLE, INT), (DOUBLE, LONG)):
        return before
    if (old, new) in ((INT, LONG), (FLOAT, DOUBLE)):
        return found
    if isinstance(old, Decimal):
        points = old.scale if new in (INT, LONG) else new.scale if isinstance(new, Decimal) else None
        digits = (
            19 if new == LONG else 10 if new == INT else new.precision - new.scale if isinstance(new, Decimal) else 0
        )
        if points is not None and points <= old.scale:
            wanted = max(old.precision, digits + old.scale)
            return str(Decimal(wanted, old.scale)) if wanted <= 38 else None
    return None


# -- YAML ----------------------------------------------------------------------------------------------------------


def yaml_of(value: Mapping[str, Any]) -> str:
    """A document of mappings, lists and plain values. Texts are written as JSON writes them, which YAML reads."""
    return "".join(_lines(value, 0))


def _lines(value: Mapping[str, Any], depth: int) -> Iterable[str]:
    for name, one in value.items():
        begin = f"{'  ' * depth}{_text(name)}:"
        if isinstance(one, Mapping) and one and (depth < 2 or any(isinstance(v, Mapping | list) for v in one.values())):
            yield f"{begin}\n"
            yield from _lines(one, depth + 1)
        elif isinstance(one, Mapping):
            yield f"{begin} {{{', '.join(f'{_text(k)}: {_scalar(v)}' for k, v in one.items())}}}\n"
        else:
            yield f"{begin} {_scalar(one)}\n"


def _text(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w.-]*", text) and text.lower() not in (
        "true",
        "false",
        "null",
        "yes",
        "no",
        "on",
        "off",
    ):
        return text
    return json.dumps(text, ensure_ascii=False)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value, ensure_ascii=False)
