"""SQL for databases outside: values stay values, and a template writes nothing into SQL that could be more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.errors import Refused, UnknownName
from tidemill.plan.sql_feed import Bound, render_sql


def rendered(template: str, **variables: Any) -> Any:
    return render_sql(template, variables, where="p.py:1")


def test_text_stays_text_and_bound_values_stand_between() -> None:
    found = rendered(
        "a = {{ x | bind }} and b = '{{ ds }}' or c in ({{ y | bind }}, 1)", x="'", y=None, ds="2026-01-01"
    )
    assert found == ("a = ", Bound("'"), " and b = '2026-01-01' or c in (", Bound(None), ", 1)")
    assert rendered("select 'it''s; -- \"fine\"'") == ("select 'it''s; -- \"fine\"'",)


@given(st.one_of(st.text(), st.integers(), st.binary(), st.none(), st.lists(st.text())))
def test_any_value_is_bound_as_it_is(value: Any) -> None:
    assert rendered("{{ x | bind }}", x=value) == (Bound(value),)


@pytest.mark.parametrize("text", ["'", '"', "\\", ";", "--", "a--b", "/*", "a = b", "(1)", "x\n", "`", "\x00", "%"])
def test_what_could_end_a_literal_is_refused(text: str) -> None:
    for template in ("a = '{{ x }}'", "a = '{{ 'b' ~ x }}'", "{% set y = x %}{{ y }}", "{{ x | upper }}"):
        with pytest.raises(Refused, match="not written into SQL") as error:
            rendered(template, x=text)
        assert error.value.hint is not None
        assert "bind" in error.value.hint


@pytest.mark.parametrize("text", ["2026-01-01", "2026-01-01T00:00:00+00:00", "public.orders", "é", 12, -1.5, True])
def test_dates_names_and_numbers_are_written(text: Any) -> None:
    assert rendered("{{ x }}", x=text) == (str(text),)


def test_a_bound_value_is_no_text() -> None:
    with pytest.raises(Refused):
        rendered("{{ (x | bind) ~ 'a' }}", x="b")
    with pytest.raises(Refused):
        rendered("\x00")
    with pytest.raises(UnknownName):
        rendered("{{ nothing | bind }}")
