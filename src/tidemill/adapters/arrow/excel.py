"""Excel workbooks (.xlsx): a sheet as CSV text, which is typed from there like any other.

Calamine reads the cells; it holds a whole sheet, so what a workbook unpacks to is bounded more tightly than elsewhere,
and looked at before. Numbers without a fraction are written as integers, dates and times in ISO's form.
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tidemill.adapters.arrow.compression import Peekable
from tidemill.model.errors import DecodeError, LimitError, SettingsError, UnknownName
from tidemill.ports.decoder import DecodeOptions, Feed

_OPTIONS = ("sheet", "header", "range", "column_names", "null_values")
_RANGE = re.compile(r"([A-Z]{1,3})(\d*):([A-Z]{1,3})(\d*)", re.IGNORECASE)
_CELL = re.compile(r"([A-Z]{1,3})(\d+)", re.IGNORECASE)
#: Bytes of XML that a workbook may unpack to, whatever `max_unpacked` says: a sheet of a million rows has some 500 MB.
_LARGEST = 2 << 30
_RATIO_FROM = 64 << 20
#: Beyond this a float has no fraction for want of bits.
_EXACT = 1 << 53
_SPECIAL = re.compile(r'[",\r\n]|^\s|\s$|^$')


@dataclass(frozen=True, slots=True)
class ExcelOptions:
    """Which cells are the table.

    Args:
        sheet: a name, or a number from 1; None: the first one that is shown.
        header: the row of the sheet, from 1, with the columns' names; True: the first row of the range, or else the
            first that holds anything; False: there is none.
        range: `B2:F100`, `B:F`, `B2:F`, or the cell where it begins, `B2`; None: all.
        column_names: instead of the header's.
        null_values: texts that mean null, beside empty cells.
    """

    sheet: str | int | None = None
    header: bool | int = True
    range: str | None = None
    column_names: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ExcelOptions:
        """Read the options of a source. Raises UnknownName, SettingsError."""
        for name in options:
            if name not in _OPTIONS:
                raise UnknownName.of("excel option", name, _OPTIONS)
        made = cls(
            options.get("sheet"),
            options.get("header", True),
            options.get("range"),
            tuple(options.get("column_names", ())),
            tuple(options.get("null_values", ())),
        )
        row: Any = made.header
        if not isinstance(row, bool) and (not isinstance(row, int) or row < 1):
            raise SettingsError(f"The excel option header={made.header!r} is no row.", hint="header=3, counted from 1")
        named: Any = made.sheet
        if named is not None and (isinstance(named, bool) or not isinstance(named, str | int)):
            raise SettingsError(f"The excel option sheet={made.sheet!r} is no name and no number.", hint='sheet="2026"')
        made.cells()
        return made

    @property
    def csv(self) -> dict[str, Any]:
        """How what is written here is read as CSV."""
        return {"header": bool(self.header), "column_names": self.column_names, "null_values": self.null_values}

    def cells(self) -> tuple[int, int, int | None, int | None]:
        """First row and column, last row and column, from 0; None: to the end. Raises SettingsError."""
        if self.range is None:
            return 0, 0, None, None
        text = str(self.range).replace("$", "").strip()
        if found := _CELL.fullmatch(text):
            return int(found[2]) - 1, _column(found[1]), None, None
        found = _RANGE.fullmatch(text)
        if not found:
            raise SettingsError(f"The excel option range={self.range!r} is none.", hint='range="B2:F100", "B:F", "B2"')
        top, bottom = int(found[2] or 1) - 1, int(found[4]) - 1 if found[4] else None
        left, right = _column(found[1]), _column(found[3])
        if top < 0 or right < left or (bottom is not None and bottom < top):
            raise SettingsError(f"The excel option range={self.range!r} ends before it begins.")
        return top, left, bottom, right


def _column(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def excel_text(feed: Feed, options: DecodeOptions, wanted: ExcelOptions) -> Peekable:
    """The cells that are wanted, as CSV.

    Raises:
        DecodeError: a workbook that is damaged or protected.
        UnknownName: there is no such sheet.
        LimitError: it unpacks to too much.
        SettingsError: what reads workbooks is not installed.
    """
    _check_size(feed, options)
    sheet = _sheet(feed, wanted)
    return Peekable(_Text(_lines(sheet, wanted)))


def _check_size(feed: Feed, options: DecodeOptions) -> None:
    """Unpack once to nowhere: the list of members may lie about their sizes, and the reader would believe it."""
    limit = min(options.max_unpacked, _LARGEST)
    total = 0
    with closing(feed.open()) as stream:
        try:
            with zipfile.ZipFile(stream) as book:
                for info in book.infolist():
                    if info.flag_bits & 1:
                        raise DecodeError(f"{feed.name} is encrypted, which is not read.", where=feed.name)
                    with book.open(info) as member:
                        while piece := member.read(1 << 20):
                            total += len(piece)
                            over = total > _RATIO_FROM and total > options.max_ratio * max(feed.bytes, 1)
                            if total > limit or over:
                                raise _too_large(feed, options.max_ratio if over else limit, over)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            raise _damaged(feed, error) from None


def _too_large(feed: Feed, limit: float, by_ratio: bool) -> LimitError:
    amount = f"{limit:g} times its size" if by_ratio else f"{int(limit):,} bytes"
    return LimitError(
        f"{feed.name} ({feed.bytes:,} bytes) unpacks to more than {amount}.",
        where=feed.name,
        hint="save the sheet as CSV, which may be of any size",
    )


def _damaged(feed: Feed, error: Exception) -> DecodeError:
    return DecodeError(
        f"{feed.name} cannot be read as an Excel workbook: {str(error).rstrip('.') or type(error).__name__}.",
        where=feed.name,
        hint="save it again as .xlsx, without a password",
    )


def _sheet(feed: Feed, wanted: ExcelOptions) -> Any:
    try:
        import python_calamine as calamine
    except ImportError:
        raise SettingsError("What reads Excel is not installed.", hint='pip install "tidemill[excel]"') from None
    with closing(feed.open()) as stream:
        try:
            book = calamine.CalamineWorkbook.from_filelike(stream)
            shown = [one.name for one in book.sheets_metadata if one.visible == calamine.SheetVisibleEnum.Visible]
            names = list(book.sheet_names)
            chosen = wanted.sheet if wanted.sheet is not None else next(iter(shown or names), None)
            if isinstance(chosen, int):
                chosen = names[chosen - 1] if 0 < chosen <= len(names) else str(chosen)
            if chosen not in names:
                raise UnknownName.of("sheet", str(chosen), names, where=feed.name)
            return book.get_sheet_by_name(chosen)
        except (calamine.CalamineError, OSError, ValueError) as error:
            raise _damaged(feed, error) from None


def _lines(sheet: Any, wanted: ExcelOptions) -> Iterator[bytes]:
    """The rows as CSV; rows before the first one are empty lines, so that lines are the sheet's rows."""
    top, left, bottom, right = wanted.cells()
    if not isinstance(wanted.header, bool):
        top = max(top, wanted.header - 1)
    start = sheet.start[1] if sheet.start else 0
    width: int | None = None
    for at, row in enumerate(sheet.iter_rows()):
        if bottom is not None and at > bottom:
            return
        cells = _cut(row, start, left, right) if at >= top else []
        while cells and cells[-1] == "":
            cells.pop()
        if not cells:
            yield b"\n"
            continue
        if width is None:
            width = len(cells) if wanted.header else max(len(cells), _width(sheet, start, left, right))
        cells += [""] * (width - len(cells))
        yield (",".join([_text(cell) for cell in cells]) + "\n").encode()


def _width(sheet: Any, start: int, left: int, right: int | None) -> int:
    """How many columns a sheet without a header has."""
    end = start + int(sheet.width)
    return (min(right + 1, end) if right is not None else end) - left


def _cut(row: list[Any], start: int, left: int, right: int | None) -> list[Any]:
    """A row's cells from column `left` on; its own begin at column `start`."""
    moved = [""] * (start - left) + row if start > left else row[left - start :]
    return moved if right is None else moved[: right - left + 1]


def _text(cell: Any) -> str:
    """A cell as CSV. A text that has to be quoted is no null, whatever it says."""
    match cell:
        case str():
            return cell if not cell or not _SPECIAL.search(cell) else '"' + cell.replace('"', '""') + '"'
        case bool():
            return "true" if cell else "false"
        case float():
            return str(int(cell)) if cell.is_integer() and abs(cell) < _EXACT else repr(cell)
        case dt.datetime():
            return cell.isoformat()
        case dt.date():
            return cell.isoformat()  # of a column of times, midnight comes as a date, which CSV's types widen
        case dt.time():
            return cell.isoformat()
        case dt.timedelta():
            return _text(cell.total_seconds())
        case None:
            return ""
    return str(cell)


class _Text:
    """Lines as a stream."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._held = b""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        pieces, length = [self._held], len(self._held)
        while length < size and (line := next(self._lines, None)) is not None:
            pieces.append(line)
            length += len(line)
        held = b"".join(pieces)
        self._held = held[size:]
        return held[:size]

    def close(self) -> None:
        """Nothing is held."""
