"""Conformance of the port `records`, continued: what cannot be written is refused by number and key, never changed."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import pytest

from harness.avro import read
from harness.encoded import encoded
from tidemill.adapters.records import encoder
from tidemill.adapters.records.encoder import ArchiveRecordEncoder
from tidemill.model.errors import DataError


def refused(rows: list[Any], form: str = "jsonl") -> str:
    with pytest.raises(DataError) as caught:
        ArchiveRecordEncoder().encode(io.BytesIO(), iter(rows), form, "none")
    return str(caught.value)


KINDS = "yield text, numbers, booleans, dates, times, decimals, bytes, lists or mappings"
GOOD = {"k": 1}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"a": 1, "k": 1j}, f'Record 2 cannot be archived: "k" is 1j (complex).\n  try: {KINDS}'),
        (
            {"k": {"x": [range(3)]}},
            f"Record 2 cannot be archived: \"k\" is {{'x': [range(0, 3)]}} (dict).\n  try: {KINDS}",
        ),
        ({"k": {(1, 2): 3}}, f'Record 2 cannot be archived: "k" is {{(1, 2): 3}} (dict).\n  try: {KINDS}'),
        (
            {"k": "\ud800"},
            "Record 2 cannot be archived: \"k\" is '\\ud800' (str): 'utf-8' codec can't encode character '\\ud800' in "
            f"position 0: surrogates not allowed.\n  try: {KINDS}",
        ),
        (
            5,
            "Record 2 cannot be archived: it is 5, not a mapping from columns to values.\n"
            '  try: yield mappings such as {"id": 1}',
        ),
        (
            None,
            "Record 2 cannot be archived: it is None, not a mapping from columns to values.\n"
            '  try: yield mappings such as {"id": 1}',
        ),
    ],
)
def test_what_json_cannot_hold_is_refused_by_number_and_key(row: Any, text: str) -> None:
    """The whole text."""
    assert refused([GOOD, row, {"k": 1j}]) == text


def test_the_number_counts_all_records() -> None:
    """Beyond the first lines that are encoded together."""
    rows: list[Any] = [GOOD] * 5000
    assert refused([*rows, {"k": 1j}]).startswith("Record 5001 cannot")


def test_a_list_that_contains_itself_is_refused() -> None:
    """Not followed for ever."""
    endless: list[Any] = []
    endless.append(endless)
    assert refused([{"k": endless}]).startswith('Record 1 cannot be archived: "k" is [[...]] (list).')
    assert refused([{"k": endless}], "avro").startswith("Record 1 cannot be archived: ")


JSON = 'archive="jsonl" takes any record'
MISFITS = [
    ({"k": 1}, {"k": 1j}, '"k" is 1j (complex), which Avro cannot hold'),
    ({"k": 1}, {"k": dt.timedelta(1)}, '"k" is datetime.timedelta(days=1) (timedelta), which Avro cannot hold'),
    ({"k": 1}, {"k": 2**63}, '"k" is 9223372036854775808, which does not fit Avro\'s 64-bit integers'),
    ({"k": 1}, {"k": "x"}, '"k" is a string, and was a long before'),
    ({"k": True}, {"k": 1}, '"k" is a long, and was a boolean before'),
    ({"k": dt.date(2026, 1, 1)}, {"k": dt.datetime(2026, 1, 1, 5)}, '"k" is a naive datetime, and was a date before'),
    (
        {"k": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
        {"k": dt.datetime(2026, 1, 1)},
        '"k" is a naive datetime, and was a datetime before',
    ),
    (
        {"k": dt.time(1)},
        {"k": dt.time(1, tzinfo=dt.UTC)},
        '"k" is a time with an offset (01:00:00+00:00), which Avro cannot hold',
    ),
    ({"k": 1.5}, {"k": 2**53 + 1}, '"k" is 9007199254740993, which cannot be held exactly beside doubles'),
    ({"k": 2**53 + 1}, {"k": 1.5}, '"k" is a double, and was before an integer that a double cannot hold exactly'),
    ({"k": Decimal(1)}, {"k": Decimal("Infinity")}, '"k" is Infinity, which Avro\'s decimals cannot hold'),
    ({"k": {"a": 1}}, {"k": {"a": "x"}}, '"k.a" is a string, and was a long before'),
    ({"k": [{"a": 1}]}, {"k": [None, {"a": "x"}]}, '"k.a" is a string, and was a long before'),
    ({"k": 1}, {"odd name": 1}, '"odd name" is a name that Avro cannot hold (letters, digits and _)'),
    ({"k": {"a": 1}}, {"k": {2: 1}}, '"k.2" is a name that Avro cannot hold (letters, digits and _)'),
]


@pytest.mark.parametrize(("before", "row", "reason"), MISFITS, ids=[reason[:40] for _, _, reason in MISFITS])
def test_what_avro_cannot_hold_is_refused_by_number_and_key(before: Any, row: Any, reason: str) -> None:
    """The whole text; each of these would be lost or changed in silence, or end in a library's own error."""
    assert refused([before, row], "avro") == f"Record 2 cannot be archived as Avro: {reason}.\n  try: {JSON}"


SCHEMA_MADE = "from which the schema was made"
LATE = [
    ({"k": 1}, {"k": 1.5}, f'"k" is a double, and was a long in all records {SCHEMA_MADE}'),
    ({"k": None}, {"k": 1}, f'"k" is a long, and had no value in all records {SCHEMA_MADE}'),
    ({"k": 1}, {"k": 1, "late": None}, f'"late" is not in the records {SCHEMA_MADE}'),
    ({"k": {"a": 1}}, {"k": {"b": 1}}, f'"k.b" is not in the records {SCHEMA_MADE}'),
    (
        {"k": dt.date(2026, 1, 1)},
        {"k": dt.datetime(2026, 1, 1, 5)},
        f'"k" is a naive datetime, and was a date in all records {SCHEMA_MADE}',
    ),
    ({"k": 1.5}, {"k": 2**53 + 1}, '"k" is 9007199254740993, which cannot be held exactly beside doubles'),
    (
        {"k": Decimal("1.5")},
        {"k": Decimal("10.25")},
        f'"k" is 10.25, and the records {SCHEMA_MADE} need 1 digits before and 1 after the point',
    ),
]


@pytest.mark.parametrize(("before", "row", "reason"), LATE, ids=[reason[:40] for _, _, reason in LATE])
def test_a_late_record_that_does_not_fit_the_avro_schema_is_refused(
    before: Any, row: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema is in the file by then; a record that fits is written."""
    monkeypatch.setattr(encoder, "_AVRO_SAMPLE", 2)
    assert read(encoded([before, before, before, before], "avro")).num_rows == 4
    text = f"Record 4 cannot be archived as Avro: {reason}.\n  try: {JSON}"
    assert refused([before, before, before, row], "avro") == text
