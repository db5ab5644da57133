"""Texts and their types: the rule for one text and the rule for a column agree, and nothing is read loosely."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.adapters.arrow.text import column_type, fits, parse, text_type
from tidemill.model.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    UUID,
    Decimal,
    Type,
)
from tidemill.plan.evolve import BIG, SMALL, join


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", UNKNOWN),
        ("0", SMALL),
        ("-12", SMALL),
        ("9007199254740992", SMALL),
        ("9007199254740993", LONG),
        ("-9223372036854775808", LONG),
        ("9223372036854775808", BIG),
        ("9" * 38, BIG),
        ("9" * 39, STRING),
        ("9" * 5000, STRING),
        ("00123", STRING),
        ("+5", STRING),
        (" 5", STRING),
        ("5 ", STRING),
        ("0x1F", STRING),
        ("1_000", STRING),
        ("1.5", DOUBLE),
        ("-1.5e-10", DOUBLE),
        ("1e5", DOUBLE),
        ("1e400", STRING),
        ("1.", STRING),
        (".5", STRING),
        ("007.5", STRING),
        ("1,5", STRING),
        ("NaN", DOUBLE),
        ("-Infinity", DOUBLE),
        ("inf", DOUBLE),
        ("nan(1)", STRING),
        ("true", BOOLEAN),
        ("FALSE", BOOLEAN),
        ("yes", STRING),
        ("2024-02-29", DATE),
        ("2023-02-29", STRING),
        ("0000-01-01", STRING),
        ("20240229", SMALL),
        ("2024-2-9", STRING),
        ("2024-02-29T10:00", TIMESTAMP),
        ("2024-02-29 10:00:00.123456", TIMESTAMP),
        ("2024-02-29 10:00:00.1234567", STRING),
        ("2024-02-29 10", STRING),
        ("2024-02-29 24:00:00", STRING),
        ("2024-02-29T10:00:00Z", TIMESTAMPTZ),
        ("2024-02-29 10:00+02:00", TIMESTAMPTZ),
        ("2024-02-29 10:00:00.5-0330", TIMESTAMPTZ),
        ("0001-01-01T00:00:00+01:00", STRING),
        ("9999-12-31T23:59:59-01:00", STRING),
        ("2024-02-29T10:00:00 UTC", STRING),
        ("2024-02-29\n", STRING),
        ("5\n", STRING),
    ],
)
def test_the_type_of_a_text_and_of_a_column_of_it(text: str, kind: Type) -> None:
    assert text_type(text, numbers=True) == kind
    assert column_type(pa.array([text, None]), numbers=True) == kind


def test_without_numbers_only_times_are_read_from_text() -> None:
    assert text_type("5", numbers=False) == STRING
    assert text_type("", numbers=False) == STRING
    assert text_type("2024-02-29", numbers=False) == DATE


_TEXTS = st.one_of(
    st.sampled_from(["", "0", "-0", "007", "1.5", "1e5", "1e400", "NaN", "-inf", "true", "False", "2024-02-30", "x"]),
    st.sampled_from(
        ["2024-02-29", "2024-02-29T10:00", "2024-02-29 10:00:00Z", "9007199254740993", "1" * 25, "é", " 1"]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False).map(repr),
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda t: t.isoformat() + "+05:30"),
    st.text(alphabet="0123456789-+.eETZ: ", max_size=12),
)


@given(st.lists(_TEXTS, max_size=12))
def test_a_columns_type_is_the_join_of_its_texts(texts: list[str]) -> None:
    expected: Type = UNKNOWN
    for text in texts:
        expected = join(expected, text_type(text, numbers=True))
    assert column_type(pa.array(texts, pa.string()), numbers=True) == expected


@given(
    st.lists(_TEXTS.filter(bool), min_size=1, max_size=12), st.sampled_from([SMALL, LONG, BIG, DOUBLE, DATE, TIMESTAMP])
)
def test_what_does_not_parse_is_what_would_widen(texts: list[str], kind: Type) -> None:
    _, bad = parse(pa.array(texts), kind)
    expected = [join(kind, text_type(text, numbers=True)) != kind for text in texts]
    assert ([False] * len(texts) if bad is None else bad.to_pylist()) == expected


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (TIME, ["00:00", "23:59:59.5"], ["24:00", "1:00", "00:00:00Z"]),
        (UUID, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000", "x"]),
        (BINARY, ["", "YQ==", "YWI=", "YWJj"], ["a", "YQ", "*", "YQ==YQ=="]),
        (Decimal(5, 2), ["1.5", "123.45", "1e2", "-0.01"], ["1.555", "1234.5", "NaN", "01"]),
        (FLOAT, ["1.5", "NaN"], ["x"]),
    ],
)
def test_declared_types(kind: Type, good: list[str], bad: list[str]) -> None:
    typed, wrong = parse(pa.array(good + bad), kind)
    assert wrong.to_pylist() == [False] * len(good) + [True] * len(bad)
    assert typed.null_count == len(bad)
    if not isinstance(kind, Decimal) and kind != FLOAT:
        assert [fits(text, kind) for text in good + bad] == [True] * len(good) + [False] * len(bad)


def test_declared_columns_are_read_leniently() -> None:
    def read(texts: list[str], kind: Type) -> list[object]:
        return parse(pa.array(texts), kind, lenient=True)[0].to_pylist()  # type: ignore[no-any-return]

    assert read(["007", "+5", " 5 ", "0x1F", "1.0"], LONG) == [7, 5, 5, None, None]
    assert read(["007.5", ".5", "5.", "+1e3", " nan", "1,5"], DOUBLE)[:4] == [7.5, 0.5, 5.0, 1000.0]
    assert read(["TRUE", "0", "1", "yes"], BOOLEAN) == [True, False, True, None]
    assert read([" 2024-01-01 "], DATE)[0] is not None


@pytest.mark.parametrize("text", ["9" * 39, "-" + "9" * 39, str(-(2**127)), str(2**128 + 5), "1" + "0" * 45])
def test_an_integer_beyond_38_digits_is_no_decimal(text: str) -> None:
    """Arrow casts some of them to another number without a word."""
    typed, misfits = parse(pa.array(["5", text, None, "9" * 38, "-" + "9" * 38]), BIG)
    assert typed.to_pylist()[1] is None
    assert misfits is not None
    assert misfits.to_pylist() == [False, True, False, False, False]
    assert column_type(pa.array(["9" * 38, text]), numbers=True) == STRING
