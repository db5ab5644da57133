"""What only PostgreSQL's destination does: rows in COPY's binary format, whatever their types and columns are."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.landing import Landing, postgres_landing, rows
from harness.postgres import Postgres
from tidemill.adapters.arrow.types import to_arrow
from tidemill.adapters.postgres.binary import sent_as
from tidemill.model.errors import DataError
from tidemill.model.table import Schema, WriteMode
from tidemill.ports.destination import TableLoad

pytestmark = pytest.mark.postgres

NAIVE = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
#: Our type -> values of it.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": NAIVE,
    "timestamptz": NAIVE.map(lambda moment: moment.replace(tzinfo=dt.UTC)),
    "string": st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])),
    "binary": st.binary(),
    "uuid": st.binary(min_size=16, max_size=16),
    "list<long>": st.lists(st.none() | st.integers(-(2**53), 2**53), max_size=3),
    **{
        f"decimal({digits},{scale})": st.integers(1 - 10**digits, 10**digits - 1).map(
            lambda n, scale=scale: Decimal(n).scaleb(-scale, None) if abs(n) < 10**28 else _exact(n, scale)
        )
        for digits, scale in ((1, 0), (4, 4), (9, 3), (18, 0), (18, 18), (19, 5), (38, 0), (38, 10), (38, 38))
    },
}


def _exact(number: int, scale: int) -> Decimal:
    """A decimal of more digits than the context of arithmetic keeps."""
    sign, digits = int(number < 0), tuple(int(digit) for digit in str(abs(number)))
    return Decimal((sign, digits, -scale))


@pytest.fixture
def landing(postgres: Postgres) -> Landing:
    """An empty database."""
    return postgres_landing(postgres.new_database())


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """Columns of any types in any order, and rows with nulls."""
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
    row = st.tuples(*(st.none() | VALUES[kind] for kind in kinds))
    return {f"c{place}": kind for place, kind in enumerate(kinds)}, draw(st.lists(row, max_size=7))


@given(tables(), st.integers(0, 3), st.integers(1, 5))
@settings(max_examples=few(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_arrives(
    landing: Landing, table: tuple[dict[str, str], list[tuple[Any, ...]]], first: int, cut: int
) -> None:
    """As it was, with any nulls, from batches that are slices of others."""
    columns, values = table
    schema = Schema.of(columns)
    arrow = to_arrow(schema)
    whole = pa.table(
        [pa.array([row[place] for row in values], kind) for place, kind in enumerate(arrow.types)], schema=arrow
    )
    numbered = Schema.of({"n": "int", **columns})
    batches = [
        pa.record_batch([pa.array(range(len(b)), pa.int32()), *b.columns], names=numbered.names)
        for b in whole.slice(first).to_batches(cut)
    ]
    landing.ask("DROP TABLE IF EXISTS t")
    load = TableLoad("t", numbered, [b.slice(1) for b in batches], WriteMode.APPEND)
    before = landing.opened().position("s")
    landing.load(load, before=before, after=str(int(before or 0) + 1))
    starts = range(first, len(values), cut)
    sent = [row for start in starts for row in values[start + 1 : min(start + cut, len(values))]]
    found = [row[1:] for row in landing.ask("SELECT * FROM t ORDER BY ctid")]
    assert [tuple(map(_plain, row)) for row in found] == [tuple(map(_plain, row)) for row in sent]


def _plain(value: Any) -> Any:
    if hasattr(value, "bytes"):
        return value.bytes
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            return float(np.float32(value))  # PostgreSQL shows a `real` with as few digits as tell it from others
    return bytes(value) if isinstance(value, memoryview) else value


def test_a_column_of_another_width_or_kind_gets_its_values(landing: Landing) -> None:
    """What fits goes in, binary where both sides have a format in common, else as text."""
    landing.ask("CREATE TYPE mood AS ENUM ('good', 'bad')")
    landing.ask(
        "CREATE TABLE odd (a bigint, b double precision, c double precision, d numeric(38,10), e varchar(9), f char(3),"
        " g mood, h json, i timestamp(0))"
    )
    columns = {"a": "int", "b": "int", "c": "float", "d": "decimal(5,2)", "e": "string", "f": "string"}
    row = (7, -7, 0.5, Decimal("-123.45"), "zoë", "x")
    before = landing.opened().position("s")
    landing.load(rows(columns, [row, (None,) * 6], table="odd"), before=before, after="odd")
    others = {"g": "string", "h": "list<long>", "i": "timestamp"}
    second = ("bad", [1], dt.datetime(2026, 1, 2, 3, 4, 5))
    landing.load(rows({**columns, **others}, [(*row, *second)], table="odd"), before="odd", after="0")
    found = landing.ask("SELECT a, b, c, d, e, trim(f), g::text, h::text, i FROM odd ORDER BY a, g")
    assert found[0] == (*row, "bad", "[1]", second[2])
    assert found[1:] == [(*row, None, None, None), (None,) * 9]


def test_columns_of_our_own_types_are_sent_as_binary() -> None:
    """The fast way is taken where it can be, and only there."""
    ours = Schema.of({"a": "int", "b": "string", "c": "decimal(5,2)", "d": "list<long>", "e": "unknown"})
    kinds = {"a": "integer", "b": "text", "c": "numeric(5,2)", "d": "jsonb", "e": "text"}
    assert sent_as(ours, kinds) is not None
    for name, kind in {"a": "numeric", "b": "mood", "c": "double precision", "d": "json", "e": "integer"}.items():
        assert sent_as(ours, {**kinds, name: kind}) is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", -(2**31)),
        ("date", -(2**31) + 10_957),
        ("timestamp", -(2**63)),
        ("timestamp", -(2**63) + 946_684_800_000_000),
        ("timestamp", -(2**62)),
    ],
)
def test_times_that_postgresql_has_no_value_for_are_refused(landing: Landing, kind: str, value: int) -> None:
    """None becomes infinity, which has the same bytes as the least number."""
    arrow = to_arrow(Schema.of({"at": kind})).types[0]
    array = pa.array([value], pa.int32() if kind == "date" else pa.int64()).view(arrow)
    batch = pa.record_batch([array], names=["at"])
    before = landing.opened().position("far")
    with pytest.raises(DataError, match=r"no value for it|out of range"):
        landing.load(TableLoad("far", Schema.of({"at": kind}), [batch]), source="far", before=before, after="1")


def test_a_nul_is_refused_with_what_to_do(landing: Landing) -> None:
    batch = pa.record_batch([pa.array(["a\0b"])], names=["a"])
    with pytest.raises(DataError, match="0x00") as refused:
        landing.load(TableLoad("t", Schema.of({"a": "string"}), [batch]), before=None, after="1")
    assert str(refused.value.hint).startswith("take it out in a table, and deliver that: ")


def test_large_texts_are_sent_in_small_pieces(landing: Landing) -> None:
    """A piece is bounded by its bytes, not only by its rows."""
    from tidemill.adapters.postgres.text import pieces

    text = pl.Series(["x" * 1_000_000] * 40).to_arrow()
    batch = pa.record_batch([text], names=["a"])
    assert [piece.num_rows for piece in pieces([batch])] == [16, 16, 8]
    before = landing.opened().position("s")
    landing.load(TableLoad("large", Schema.of({"a": "string"}), [batch]), before=before, after="2")
    assert landing.ask("SELECT count(*), sum(length(a)) FROM large") == [(40, 40_000_000)]
