"""Values and tables as people read them: exact texts, and what gives way where there is no room."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.cli.grid import Column, Styled, render
from tidemill.cli.text import after, cell, count, cut, duration, plain, size, width
from tidemill.model.json_values import jsonable


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(27004, "rows", "27,004 rows"), (1, "rows", "1 row"), (0, "rows", "0 rows"), (None, "rows", "-"), (5, "", "5")],
)
def test_counts_have_separators_and_their_noun(number, noun, text):
    assert count(number, noun) == text


def test_an_irregular_noun_brings_its_singular():
    assert count(1, "branches", "branch") == "1 branch"
    assert count(2, "branches", "branch") == "2 branches"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (1024 * 1024 - 1, "1.0 MB"), (16_700, "16.3 KB"), (None, "-"),
     (3 << 60, "3072.0 PB")],
)  # fmt: skip
def test_sizes_take_the_largest_unit(amount, text):
    assert size(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.004, "0.00 s"), (1.234, "1.23 s"), (12.34, "12.3 s"), (245, "4 min 05 s"), (11220, "3 h 07 min"),
     (12 * 86400, "12 d")],
)  # fmt: skip
def test_durations_keep_about_three_digits(seconds, text):
    assert duration(seconds) == text


def test_a_later_step_is_told_as_time_after_the_first():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert after(start + timedelta(seconds=0.42), start) == "+0.42 s"
    assert after(None, start) == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (3, "3"), (3.0, "3.0"), (0.1, "0.1"), (float("nan"), "nan"), (1e300, "1e+300"),
        (Decimal("1.50"), "1.50"), (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02 03:04:05+00:00"), (b"\x00\xff", "0x00ff"),
        ({"a": [1, None]}, '{"a": [1, null]}'), ("line\nbreak", "line\\nbreak"), ("", ""),
    ],
)  # fmt: skip
def test_cells(value, text):
    assert cell(value) == text


def test_data_cannot_steer_the_terminal():
    """An escape sequence in a value is shown, not obeyed."""
    assert plain("\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert plain("zero\u200bwidth") == "zero\\u200bwidth"


@given(st.text())
def test_what_is_shown_is_always_printable(text):
    assert plain(text).isprintable()


@given(st.text(alphabet=st.characters(exclude_categories=["C"])), st.integers(1, 20))
def test_cut_text_fits(text, limit):
    short = cut(text, limit)
    assert width(short) <= limit
    assert short == text or short.endswith("…")


def test_json_keeps_what_a_value_says():
    value = {"t": datetime(2026, 1, 2, tzinfo=UTC), "d": Decimal("1.50"), "n": float("nan"), "b": b"\x00"}
    assert json.loads(json.dumps(jsonable(value))) == {
        "t": "2026-01-02T00:00:00+00:00", "d": "1.50", "n": "nan", "b": "AA==",
    }  # fmt: skip


# Tables

COLUMNS = [Column("name"), Column("rows", right=True), Column("note", yields=1)]
ROWS = [["departures", "842", "a long remark about it"], ["x", "27,004", ""]]


def test_columns_are_aligned_and_lines_have_no_trailing_blanks():
    assert render(COLUMNS, ROWS).lines == [
        "name          rows  note",
        "departures     842  a long remark about it",
        "x           27,004",
    ]


def test_columns_that_yield_are_hidden_first():
    made = render(COLUMNS, ROWS, within=30)
    assert made.lines == ["name          rows", "departures     842", "x           27,004"]
    assert made.hidden == ["note"]
    assert made.cut_cells == 0


def test_then_the_widest_columns_shrink():
    made = render([Column("a"), Column("b")], [["x" * 40, "y" * 10]], within=30)
    assert made.lines[1] == "x" * 17 + "…  " + "y" * 10
    assert made.cut_cells == 1


def test_at_last_columns_go_from_the_right():
    made = render([Column(f"column_{i}") for i in range(10)], [["1234567890"] * 10], within=40)
    assert made.hidden == [f"column_{i}" for i in range(4, 10)]


def test_a_cell_has_a_longest_width():
    made = render([Column("a")], [["x" * 100]], longest=10)
    assert made.lines[1] == "x" * 9 + "…"
    assert made.cut_cells == 1


def test_styles_do_not_disturb_the_alignment():
    made = render(
        [Column("a"), Column("b")], [[Styled("no", "bad"), "1"], ["yes", "2"]], paint=lambda t, s: f"<{s}:{t}>"
    )
    assert made.lines == ["<heading:a  >  <heading:b>", "<bad:no >  1", "yes  2"]


def test_wide_characters_take_two_columns():
    assert render([Column("a"), Column("b")], [["東京", "1"], ["Oslo", "2"]]).lines == ["a     b", "東京  1", "Oslo  2"]


words = st.text(alphabet=st.characters(exclude_categories=["C"]), max_size=60)


@given(st.lists(st.lists(words, min_size=4, max_size=4), max_size=6), st.integers(8, 120))
def test_no_line_is_wider_than_the_terminal(rows, within):
    made = render(
        [Column("one"), Column("two", yields=1), Column("three", yields=2), Column("four")], rows, within=within
    )
    assert all(width(line) <= within for line in made.lines)
