"""Values that tasks hand to each other come back as what they were, or are refused with their type's name."""

from __future__ import annotations

import enum
import math
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.batch import Interval
from tidemill.model.errors import DataError
from tidemill.plan.values import dump_value, load_value

Pair = namedtuple("Pair", "left right")


class Color(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Order:
    id: int
    at: datetime
    lines: tuple[str, ...] = ()
    total: Decimal = field(default=Decimal(0), init=False)


ZONES = st.sampled_from([UTC, ZoneInfo("Europe/London"), ZoneInfo("America/New_York")])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.dates(),
    st.datetimes(), st.datetimes(timezones=ZONES), st.times(), st.timedeltas(), st.decimals(allow_nan=False),
    st.uuids(), st.sampled_from([Color.RED, PurePosixPath("a/b"), Pair(1, "x"), 1 + 2j]),
)  # fmt: skip
HASHABLE = st.one_of(st.integers(), st.text(), st.dates(), st.booleans())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text(), inner),
        st.dictionaries(HASHABLE, inner), st.sets(HASHABLE), st.frozensets(HASHABLE),
    ),
    max_leaves=12,
)  # fmt: skip


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        kept = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(k, m) and same(v, w) for (k, v), (m, w) in kept)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, datetime):
        return one.replace(tzinfo=None) == other.replace(tzinfo=None) and str(one.tzinfo) == str(other.tzinfo)
    return one == other


@given(VALUES)
def test_every_value_comes_back_as_what_it_was(value):
    assert same(load_value(dump_value(value)), value)


def test_what_json_has_no_word_for():
    assert math.isnan(load_value(dump_value(math.nan)))
    assert load_value(dump_value([math.inf, -math.inf])) == [math.inf, -math.inf]
    assert load_value(dump_value({"$": "date", "v": 1})) == {"$": "date", "v": 1}
    assert load_value(dump_value({1: "a", (2, 3): "b"})) == {1: "a", (2, 3): "b"}
    twice = datetime(2026, 10, 25, 1, 30, tzinfo=ZoneInfo("Europe/London"), fold=1)
    assert load_value(dump_value(twice)).utcoffset() == twice.utcoffset() == timedelta(0)


def test_dataclasses_of_the_users_and_ours():
    order = Order(1, datetime(2026, 1, 1, tzinfo=UTC), ("a",))
    assert load_value(dump_value([order])) == [order]
    interval = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    assert load_value(dump_value(interval)) == interval


def test_subclasses_of_plain_types_become_plain():
    class Text(str):
        pass

    assert load_value(dump_value(Text("x"))) == "x"
    numpy = pytest.importorskip("numpy")
    assert load_value(dump_value([numpy.int64(3), numpy.float32(0.5)])) == [3, 0.5]


def test_what_cannot_be_handed_over_is_named():
    import polars as pl

    class Local:
        pass

    for value, name in ((object(), "builtins.object"), ({"a": [Local()]}, "Local"), (lambda: 0, "function"),
                        ((x for x in ()), "generator")):  # fmt: skip
        with pytest.raises(DataError, match=name):
            dump_value(value)
    with pytest.raises(DataError) as caught:
        dump_value(pl.DataFrame({"a": [1]}), what='What "load" returns')
    assert 'What "load" returns is or holds a polars' in caught.value.what
    assert "table" in (caught.value.hint or "")
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(DataError, match="holds itself"):
        dump_value(loop)


def test_a_class_that_is_gone_or_changed_is_told():
    text = dump_value(Order(1, datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(DataError, match="no longer there"):
        load_value(text.replace("Order", "Odor"))
    with pytest.raises(DataError, match="its fields were"):
        load_value(text.replace('"lines"', '"rows"'))
    with pytest.raises(DataError, match="unknown kind"):
        load_value('{"$": "dataclass", "class": "builtins:dict", "v": []}')


def test_no_class_but_those_kinds_is_ever_made():
    """A value in the database cannot call anything."""
    for kind in ("enum", "namedtuple", "dataclass", "call"):
        with pytest.raises(DataError):
            load_value(f'{{"$": "{kind}", "class": "subprocess:Popen", "v": ["ls"]}}')
    assert load_value(dump_value([UUID(int=1), time(1, 2), date(2026, 1, 1)])) == [
        UUID(int=1),
        time(1, 2),
        date(2026, 1, 1),
    ]
