"""From page to page: the header `Link`, records as the decoder finds them, cursors that are compared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.decoding import decode
from tidemill.model.errors import DataError
from tidemill.model.rest import ByCursor, ByLink, ByOffset, ByPage
from tidemill.plan.asking import Greatest, fill, is_beyond
from tidemill.plan.jsonpath import compile_path
from tidemill.plan.pages import Told, Walk, linked, records_in


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ('<https://h/x?page=2>; rel="next"', "https://h/x?page=2"),
        ('<https://h/a,b;c>; rel="prev", <https://h/x>; title="a, b"; REL=next', "https://h/x"),
        ('<https://h/x>; rel="last next"', "https://h/x"),
        ('<https://h/x>; rel="nextish"', None),
        ("<https://h/x>", None),
        ("", None),
        ("<<<>>>;;; rel=", None),
    ],
)
def test_links(header: str, address: str | None) -> None:
    assert linked(header, "next") == address


@given(st.text('<>;,="\\ relnxt', max_size=60))
def test_no_header_breaks_it(header: str) -> None:
    linked(header, "next")


VALUES = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)
PATHS = st.sampled_from(["$", "$.a", "$.a[*]", "$[*].a", "$.a.b", "$.a[0]", "$[*]", "$.a[*].b[*]"])


@given(VALUES, PATHS)
def test_extracting_and_loading_find_the_same_records(document: Any, path: str) -> None:
    """Objects are rows and the rest is rejected: together they are what the extraction counts."""
    try:
        found: int | None = len(records_in(document, compile_path(path, "records"), where="page", path=path))
    except DataError:
        found = None
    try:
        made = decode(json.dumps(document), "page.json", records=path)
        loaded: int | None = len(made.rows) + len(made.rejected)
    except DataError:
        loaded = None
    assert found == loaded


def test_an_empty_page_with_the_cursor_of_the_last_is_the_end() -> None:
    walk = Walk(ByCursor("$.next"))
    assert walk.next(Told("p1", "u", {"next": "c"}, [1])) is not None
    assert walk.next(Told("p2", "u", {"next": "c"}, [])) is None
    walk = Walk(ByCursor("$.next"))
    walk.next(Told("p1", "u", {"next": "c"}, [1]))
    with pytest.raises(DataError, match=r"p2 repeats the cursor at \$\.next"):
        walk.next(Told("p2", "u", {"next": "c"}, [2]))


def test_a_short_page_is_not_the_last_one() -> None:
    """Services cap pages below what is asked for: only an empty page, or the total, tells the end."""
    walk = Walk(ByPage())
    assert walk.first().changes == {"page": 1}
    turn = walk.next(Told("p1", "u", {}, [{"id": 1}]))
    assert turn is not None
    assert turn.changes == {"page": 2}
    assert walk.next(Told("p2", "u", {}, [])) is None
    walk = Walk(ByOffset(total="$.n"))
    turn = walk.next(Told("p1", "u", {"n": "5"}, [1, 2, 3]))
    assert turn is not None
    assert turn.changes == {"offset": 3}
    assert walk.next(Told("p2", "u", {"n": 5}, [4, 5])) is None
    with pytest.raises(DataError, match="has no number"):
        Walk(ByPage(total="$.n")).next(Told("p1", "u", {"n": None}, [1]))


def test_relative_links_and_their_own_address() -> None:
    walk = Walk(ByLink())
    turn = walk.next(Told("p1", "https://h/a/b?x=1", link="<c?x=2>; rel=next"))
    assert turn is not None
    assert turn.url == "https://h/a/c?x=2"
    with pytest.raises(DataError, match="circles"):
        walk.next(Told("p2", "https://h/a/c?x=2", link="</a/b?x=1>; rel=next"))


@pytest.mark.parametrize(
    ("values", "greatest"),
    [
        ([3, 10, 9.5], 10),
        (["b", "a", "c"], "c"),
        (["20260101", "9"], "9"),
        (["2026-01-01T00:00:00+01:00", "2025-12-31T23:30:00Z"], "2025-12-31T23:30:00Z"),
        (["2026-01-02", "2026-01-10"], "2026-01-10"),
    ],
)
def test_the_greatest_value_by_its_meaning(values: list[Any], greatest: Any) -> None:
    found = Greatest(None, "$.at")
    for value in values:
        found.add(value, "here")
    assert found.value == greatest
    assert not is_beyond(greatest, greatest, "$.at", "here")


def test_templates_within_a_body() -> None:
    body = {"a": ["{{ n }}", 1, None], "b": {"c": "no template"}}
    assert fill(body, {"n": 7}, "here") == {"a": ["7", 1, None], "b": {"c": "no template"}}
