"""Tables of web pages: what a reader sees, as rows of texts; spans, headers, and pages that are badly written."""

from __future__ import annotations

from typing import Any

import pytest

from harness.decoding import decode
from tidemill.model.errors import DecodeError, LimitError, SettingsError
from tidemill.model.table import Contract, Schema

pytest.importorskip("lxml")


def rows(page: str | bytes, **html: Any) -> list[dict[str, Any]]:
    return decode(page, "page.html", html=html).rows


def table(inside: str) -> str:
    return f"<html><body><table>{inside}</table></body></html>"


def test_cells_are_texts_unless_columns_are_declared() -> None:
    page = table("<tr><th>City</th><th>People</th><th>Free</th></tr><tr><td>Rome</td><td>2800000</td><td></td></tr>")
    assert rows(page) == [{"City": "Rome", "People": "2800000"}]
    declared = Contract(columns=Schema.of({"People": "long"}))
    assert decode(page, "page.html", contract=declared).rows[0]["People"] == 2800000
    wrong = Contract(columns=Schema.of({"City": "long"}))
    made = decode(page, "page.html", contract=wrong)
    assert [(line, error) for line, _, error in made.rejected] == [(1, 'City: "Rome" does not fit long')]


def test_spans_are_repeated_and_headers_of_several_rows_joined() -> None:
    page = table(
        """<thead><tr><th rowspan=2>City</th><th colspan=2>Sales</th></tr><tr><th>2024</th><th>2025</th></tr></thead>
        <tbody><tr><td rowspan="2">Rome</td><td>1</td><td>2</td></tr><tr><td colspan="2">3</td></tr>
        <tr><td>Oslo</td><td>4</td></tr></tbody>"""
    )
    assert rows(page) == [
        {"City": "Rome", "Sales 2024": "1", "Sales 2025": "2"},
        {"City": "Rome", "Sales 2024": "3", "Sales 2025": "3"},
        {"City": "Oslo", "Sales 2024": "4", "Sales 2025": None},
    ]


def test_a_span_down_to_the_end_and_one_beyond_it() -> None:
    page = table("<tr><th>a</th><th>b</th></tr><tr><td rowspan=0>1</td><td rowspan=9>2</td></tr><tr></tr>")
    assert rows(page) == [{"a": "1", "b": "2"}, {"a": "1", "b": "2"}]


def test_without_header_cells_the_first_row_names_the_columns() -> None:
    assert rows(table("<tr><td>a<td>a<td><tr><td>1<td>2<td>3")) == [{"a": "1", "a_2": "2", "column_3": "3"}]


def test_a_header_that_comes_again_is_no_row_and_feet_come_last() -> None:
    page = table(
        "<thead><tr><th>a</th></tr></thead><tfoot><tr><td>sum</td></tr></tfoot>"
        "<tr><td>1</td></tr><tr><th>a</th></tr><tr><td> </td></tr><tr><th>2</th></tr>"
    )
    assert rows(page) == [{"a": "1"}, {"a": "2"}, {"a": "sum"}]


def test_texts_are_what_a_reader_sees() -> None:
    page = table(
        "<tr><th>a</tr><tr><td> <b>x</b>&nbsp;&amp;\n y<br>z<p>w</p>v<script>no()</script><!-- no --></td></tr>"
    )
    assert rows(page) == [{"a": "x & y z w v"}]


PAGE = """<table id="layout"><tr><td>
  <table id="one"><tr><th>a</th></tr><tr><td>first</td></tr></table>
  <table id="two"><tr><th>a</th></tr><tr><td>second Price</td></tr></table>
</td></tr></table>"""


def test_a_table_is_found_by_id_by_a_text_and_by_number() -> None:
    assert rows(PAGE, match="one") == [{"a": "first"}]
    assert rows(PAGE, match="second price") == [{"a": "second Price"}]
    assert rows(PAGE, number=2) == [{"a": "second Price"}]
    assert rows(PAGE, match="A", number=1) == [{"a": "second Price"}]


def test_a_table_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(DecodeError, match='has not a table with "none"') as caught:
        rows(PAGE, match="none")
    assert "id \"two\", 'a second Price'" in str(caught.value.hint)
    with pytest.raises(DecodeError, match="of number 7"):
        rows(PAGE, number=7)
    with pytest.raises(DecodeError, match="such a table") as caught:
        rows("<p>nothing here</p>")
    assert "no tables" in str(caught.value.hint)
    with pytest.raises(DecodeError, match="is no web page"):
        rows("  ")
    with pytest.raises(SettingsError, match='no option "tabel"'):
        rows(PAGE, tabel=1)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (table("<tr><td>a<tr><td>ü").encode(), "ü"),
        (b'<meta charset="iso-8859-2">' + table("<tr><td>a<tr><td>ł").encode("iso-8859-2"), "ł"),
        (table("<tr><td>a<tr><td>ü").encode("utf-16"), "ü"),
    ],
)
def test_encodings(page: bytes, expected: str) -> None:
    assert rows(page) == [{"a": expected}]


def test_spans_do_not_fill_the_memory() -> None:
    cells = "<td rowspan=1000 colspan=1000>x</td>" * 20
    with pytest.raises(LimitError, match="cells"):
        rows(table(f"<tr>{cells}</tr>" + "<tr></tr>" * 1000))
    with pytest.raises(LimitError, match="columns"):
        rows(table("<tr>" + "<td colspan=1000>x</td>" * 11 + "</tr>"))


def test_deep_pages_are_read() -> None:
    page = table("<tr><td>a</td></tr><tr><td>" + "<span>" * 2000 + "x</td></tr>")
    assert rows(page) == [{"a": "x"}]
    with pytest.raises(LimitError, match="nested too deep"):
        rows(table("<tr><td>a</td></tr><tr><td>" + "<span>" * 5000 + "x</td></tr>"))
