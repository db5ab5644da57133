"""A table of a web page as lines of JSON: its header's names, and a text for each cell. Between a page and JSON Lines.

Pages are written for people: cells span rows and columns, headers have several rows and come again half-way, tables
lie within tables that are there for the layout. lxml reads what browsers read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from tidemill.adapters.arrow.blocks import Cutting
from tidemill.adapters.arrow.compression import Stream
from tidemill.adapters.arrow.decoded import Decoded, Work
from tidemill.adapters.arrow.jsonl import decode_block
from tidemill.model.errors import DecodeError, LimitError, SettingsError
from tidemill.model.types import BOOLEAN, DOUBLE, FLOAT, INT, LONG, Decimal
from tidemill.plan.known import Known

#: Bytes of a page, and columns or rows that one cell may span.
_LARGEST, _SPAN = 64 << 20, 1000
#: Cells of a table, where such spans are nested.
_CELLS = 10_000_000
_PLAIN = (BOOLEAN, INT, LONG, FLOAT, DOUBLE)
_AS_IT_IS = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false")
#: What stands by itself: its text is apart from that around it.
_APART = frozenset(
    ("address", "article", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6",
     "hr", "li", "ol", "p", "pre", "section", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul")
)  # fmt: skip
_HIDDEN = ("script", "style", "template", "noscript")


def html_work(stream: Stream, cutting: Cutting) -> Iterator[Work]:
    """The rows of the table that the options mean, ready to be decoded.

    Raises:
        DecodeError: there is no such table. LimitError: the page is too large. SettingsError: lxml is not installed.
    """
    page = _read(stream, cutting)
    table = _table(page, cutting)
    header, rows = _split(table)
    width = max([len(row) for row in (*header, *rows)], default=0)
    if width > cutting.options.max_columns:
        raise LimitError(f"The table in {cutting.name} has {width:,} columns.", where=cutting.name, hint="max_columns")
    names = _names(header, width)
    if rows:
        yield partial(_decode, rows, names, cutting)


def _decode(rows: Sequence[Sequence[str]], names: Sequence[str], cutting: Cutting, known: Known) -> Decoded:
    """Rows as JSON Lines, whose texts are numbers where a column is known to be of numbers."""
    plain = {column.name for column in known.columns if column.base in _PLAIN or isinstance(column.base, Decimal)}
    lines = []
    for row in rows:
        cells = zip(names, [*row, *[""] * (len(names) - len(row))], strict=True)
        made = (f"{json.dumps(name)}:{_value(text, name in plain)}" for name, text in cells)
        lines.append(f"{{{','.join(made)}}}\n")
    return decode_block("".join(lines).encode("utf-8", "replace"), known, cutting.name, cutting.options)


def _value(text: str, plain: bool) -> str:
    if not text:
        return "null"
    return text if plain and _AS_IT_IS.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _read(stream: Stream, cutting: Cutting) -> Any:
    try:
        from lxml import etree
    except ImportError:
        raise SettingsError("lxml is not installed.", hint='pip install "tidemill[html]"') from None
    parts, size = [], 0
    while part := stream.read(1 << 20):
        parts.append(part)
        size += len(part)
        if size > _LARGEST:
            raise LimitError(f"{cutting.name} has more than {_LARGEST >> 20} MB.", where=cutting.name)
    data = b"".join(parts)
    try:
        data.decode("utf-8")
        encoding: str | None = "utf-8"  # what is UTF-8 says so seldom, and by mistake is it never
    except UnicodeDecodeError:
        encoding = None
    parser = etree.HTMLParser(encoding=encoding, no_network=True, huge_tree=True, remove_comments=True)
    page = etree.fromstring(data, parser) if data.strip() else None
    if any(error.type_name == "ERR_RESOURCE_LIMIT" for error in parser.error_log):
        raise LimitError(f"{cutting.name} is nested too deep.", where=cutting.name)
    if page is None:
        raise DecodeError(f"{cutting.name} is no web page.", where=cutting.name)
    return page


def _table(page: Any, cutting: Cutting) -> Any:
    """The one that is meant."""
    tables = list(page.iter("table"))
    wanted = cutting.options.html
    for name in wanted:
        if name not in ("match", "number"):
            raise SettingsError(f'There is no option "{name}" for web pages.', hint="match, number")
    match, number = wanted.get("match"), int(wanted.get("number") or 0)
    found = [table for table in tables if table.get("id") == match] if match is not None else tables
    if match is not None and not found:
        text = " ".join(str(match).split()).casefold()
        found = [table for table in tables if text in _text(table).casefold()]
        # A table for the layout has the texts of those within it.
        found = [
            table for table in found if not any(inner in found for inner in table.iter("table") if inner is not table)
        ]
    if 0 <= number < len(found):
        return found[number]
    shown = "; ".join(_shown(table) for table in tables[:5]) or "none"
    what = f'a table with "{match}"' if match is not None else "such a table"
    raise DecodeError(
        f"{cutting.name} has not {what}" + (f" of number {number}." if number else "."),
        where=cutting.name,
        hint=f"of {len(tables)} tables it has: {shown}" if tables else "it has no tables: perhaps a script makes them",
    )


def _shown(table: Any) -> str:
    known = f'id "{table.get("id")}", ' if table.get("id") else ""
    return f"{known}{_text(table)[:40]!r}"


def _split(table: Any) -> tuple[list[list[str]], list[list[str]]]:
    """The texts of the header's rows, and of the others."""
    sections: dict[str, list[Any]] = {"head": [], "body": [], "foot": []}
    for child in table:
        if child.tag == "tr":
            sections["body"].append(child)
        elif child.tag in ("thead", "tbody", "tfoot"):
            sections[child.tag[1:]] += [row for row in child if row.tag == "tr"]
    head = _grid(sections["head"])
    body = sections["body"]
    if not head:
        # Without a head, rows of header cells begin the table; without those, its first row names the columns.
        count = next((at for at, row in enumerate(body) if not _is_header(row)), len(body)) or 1
        spanned = _grid(body)
        head, rows, marks = spanned[:count], spanned[count:], body[count:]
    else:
        rows, marks = _grid(body), body
    # A long table repeats its header for those who scroll.
    kept = [row for row, mark in zip(rows, marks, strict=True) if not (_is_header(mark) and row in head)]
    return head, [row for row in (*kept, *_grid(sections["foot"])) if any(row)]


def _is_header(row: Any) -> bool:
    cells = [cell.tag for cell in row if cell.tag in ("td", "th")]
    return bool(cells) and all(tag == "th" for tag in cells)


def _grid(rows: Sequence[Any]) -> list[list[str]]:
    """Texts by row and column; a cell that spans several is in each of them."""
    texts: dict[tuple[int, int], str] = {}
    width = 0
    for at, row in enumerate(rows):
        place = 0
        for cell in row:
            if cell.tag not in ("td", "th"):
                continue
            while (at, place) in texts:
                place += 1
            text, wide = _text(cell), _span(cell, "colspan", 1)
            deep = min(_span(cell, "rowspan", len(rows) - at), len(rows) - at)
            if len(texts) + wide * deep > _CELLS:
                raise LimitError(f"A table has more than {_CELLS:,} cells.")
            for down in range(deep):
                for right in range(wide):
                    texts.setdefault((at + down, place + right), text)
            place += wide
            width = max(width, place)
    return [[texts.get((at, place), "") for place in range(width)] for at in range(len(rows))]


def _span(cell: Any, name: str, whole: int) -> int:
    """How many rows or columns; 0 means all that are left."""
    given = (cell.get(name) or "1").strip()
    if not given.isdigit():
        return 1
    return min(int(given) or whole, _SPAN)


def _text(cell: Any) -> str:
    """What a reader sees, with single blanks."""
    from lxml import etree

    parts: list[str] = []
    walker = etree.iterwalk(cell, events=("start", "end"))
    for event, element in walker:
        blank = " " if element.tag in _APART else ""
        if event == "end":
            parts.append(blank + ((element.tail or "") if element is not cell else ""))
        elif element.tag in _HIDDEN:
            walker.skip_subtree()
        else:
            parts.append(blank + (element.text or ""))
    return " ".join("".join(parts).split())


def _names(header: Sequence[Sequence[str]], width: int) -> list[str]:
    """A name for each column, of all rows of the header; no two that differ only in case."""
    names: list[str] = []
    taken: set[str] = set()
    for at in range(width):
        words: list[str] = []
        for row in header:
            text = row[at] if at < len(row) else ""
            if text and text not in words:
                words.append(text)
        base = name = " ".join(words) or f"column_{at + 1}"
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
