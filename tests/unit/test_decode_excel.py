"""Excel workbooks as feeds: sheets, headers, ranges, dates; and what is no workbook."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from typing import Any

import openpyxl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from harness.packing import decode, zipped
from tidemill.model.errors import DecodeError, LimitError, SettingsError, UnknownName


def workbook(rows: list[list[Any]], *, sheet: str = "Sheet1", at: tuple[int, int] = (1, 1), **more: Any) -> bytes:
    book = openpyxl.Workbook()
    if more.get("epoch"):
        book.epoch = more["epoch"]
    page = book.active
    page.title = sheet
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            page.cell(at[0] + i, at[1] + j, value)
    for name, others in more.get("sheets", {}).items():
        other = book.create_sheet(name)
        for row in others:
            other.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def read(content: bytes, **options: Any) -> list[dict[str, Any]]:
    rows, rejected = decode(content, "in.xlsx", **options)
    assert rejected == []
    return rows


def test_cells_are_typed_like_text() -> None:
    rows = read(
        workbook(
            [
                ["id", "price", "zip", "ok", "day", "note"],
                [1, 1.5, "01234", True, dt.date(2026, 1, 1), 'a "quoted", one'],
                [2, 2, "99999", False, dt.date(2026, 2, 29 - 1), None],
                [3, None, None, None, None, "two\nlines"],
            ]
        )
    )
    assert rows == [
        {"id": 1, "price": 1.5, "zip": "01234", "ok": True, "day": dt.date(2026, 1, 1), "note": 'a "quoted", one'},
        {"id": 2, "price": 2.0, "zip": "99999", "ok": False, "day": dt.date(2026, 2, 28), "note": None},
        {"id": 3, "price": None, "zip": None, "ok": None, "day": None, "note": "two\nlines"},
    ]


def test_midnight_in_a_column_of_times_is_a_time() -> None:
    moments = [dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, 12, 30, 15), dt.datetime(1999, 12, 31, 23, 59, 59)]
    rows = read(workbook([["at"], *([moment] for moment in moments)]))
    assert [row["at"] for row in rows] == moments


@pytest.mark.parametrize("day", [dt.date(1900, 3, 1), dt.date(1970, 1, 1), dt.date(2024, 2, 29), dt.date(9999, 12, 31)])
def test_dates_are_right_in_both_calendars(day: dt.date) -> None:
    assert read(workbook([["day"], [day]])) == [{"day": day}]
    if day.year > 1904:
        assert read(workbook([["day"], [day]], epoch=CALENDAR_MAC_1904)) == [{"day": day}]


def test_a_sheet_is_chosen_by_name_or_number_else_the_first() -> None:
    content = workbook([["id"], [1]], sheets={"2026": [["id"], [2]], "3": [["id"], [3]]})
    assert read(content) == [{"id": 1}]
    assert read(content, excel={"sheet": "2026"}) == [{"id": 2}]
    assert read(content, excel={"sheet": 2}) == [{"id": 2}]
    assert read(content, excel={"sheet": "3"}) == [{"id": 3}]
    with pytest.raises(UnknownName, match='no sheet "2027"') as caught:
        read(content, excel={"sheet": "2027"})
    assert '"2026"' in str(caught.value)


def test_a_table_that_begins_somewhere() -> None:
    rows = [["Report"], [None], ["id", "v"], [1, "a"], [2, "b"]]
    content = workbook(rows, at=(2, 3))
    wanted = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]
    assert read(content, excel={"header": 4}) == wanted
    assert read(content, excel={"range": "C4:D6"}) == wanted
    assert read(content, excel={"range": "C4"}) == wanted
    assert read(content, excel={"range": "C4:D5"}) == wanted[:1]
    assert read(content, excel={"range": "C:D", "header": 4}) == wanted
    assert read(content, excel={"range": "$D$4:$D$6"}) == [{"v": "a"}, {"v": "b"}]
    assert read(content, excel={"range": "C5:D6", "header": False, "column_names": ["k", "w"]}) == [
        {"k": 1, "w": "a"},
        {"k": 2, "w": "b"},
    ]


def test_a_header_at_the_second_row_of_a_sheet_with_a_title() -> None:
    assert read(workbook([["Title"], ["id", "v"], [1, "a"]]), excel={"header": 2}) == [{"id": 1, "v": "a"}]


def test_empty_rows_are_left_out_and_lines_are_those_of_the_sheet() -> None:
    content = workbook([["id", "v"], [1, "a"], [None, None], [2, "b", "too much"], [3, "c"]])
    rows, rejected = decode(content, "in.xlsx")
    assert [row["id"] for row in rows] == [1, 3]
    assert [(one.file, one.line) for one in rejected] == [("in.xlsx", 4)]


def test_texts_that_mean_null() -> None:
    assert read(workbook([["id"], [1], ["n/a"]]), excel={"null_values": ["n/a"]}) == [{"id": 1}, {"id": None}]


def test_an_empty_sheet_has_no_rows() -> None:
    assert read(workbook([])) == []


def test_a_workbook_in_an_archive() -> None:
    inside = workbook([["id"], [1]])
    assert decode(zipped([("a.xlsx", inside), ("b.csv", b"id\n2\n")]))[0] == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"shet": "a"}, UnknownName), ({"range": "nonsense"}, SettingsError), ({"range": "D1:A9"}, SettingsError),
        ({"header": 0}, SettingsError), ({"sheet": 1.5}, SettingsError),
    ],
)  # fmt: skip
def test_options_that_cannot_be(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        read(workbook([["id"], [1]]), excel=options)


def test_files_that_are_no_workbook() -> None:
    content = workbook([["id"], *([i] for i in range(5000))])
    with pytest.raises(DecodeError):
        read(content[: len(content) // 2])
    with pytest.raises(DecodeError):
        read(content[:60])
    with pytest.raises(DecodeError, match="no Excel workbook"):
        read(b"id\n1\n", format="xlsx")
    with pytest.raises(DecodeError, match="password"):
        read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    broken = bytearray(content)
    sheet = content.index(b"xl/worksheets/sheet1.xml")
    broken[sheet + 200] ^= 0xFF
    with pytest.raises(DecodeError):
        read(bytes(broken))


def test_a_workbook_without_its_sheet_is_damaged() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("xl/workbook.xml", "<nonsense/>")
    with pytest.raises(DecodeError, match="Excel"):
        read(out.getvalue())


def test_a_bomb_is_refused_before_it_is_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook([["id"], [1]]))) as inside, zipfile.ZipFile(out, "w", 8) as archive:
        for name in inside.namelist():
            archive.writestr(name, inside.read(name))
        archive.writestr("xl/media/more.bin", b"\0" * 5_000_000)
    with pytest.raises(LimitError, match="unpacks to more than 1,000,000"):
        read(out.getvalue(), max_unpacked=1_000_000)
