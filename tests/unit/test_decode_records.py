"""Records within JSON documents: found where the path says, as they are written, and the same by both ways to read."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.decoding import decode, feed
from tidemill.adapters.arrow.blocks import Cutting
from tidemill.adapters.arrow.documents import record_blocks
from tidemill.model.errors import DecodeError, LimitError
from tidemill.plan.jsonpath import Each, Step, find_all
from tidemill.ports.decoder import DecodeOptions

PAGE = '{"next": 2, "data": [{"id": 1, "note": "a\\nb"},\n {"id": 2}], "meta": {"rows": [[1], [2]]}}'


def raw(data: bytes, path: str, whole: int, **options: Any) -> list[Any]:
    """The records that are cut out, decoded."""
    cutting = Cutting("page.json", DecodeOptions(records=path, **options), 16)
    blocks = list(record_blocks(io.BytesIO(data), cutting, whole))
    return [json.loads(line) for block in blocks for line in block.splitlines()]


@pytest.fixture(params=[0, 1 << 20], ids=["walked through", "as a whole"])
def whole(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_records_become_rows_with_their_types() -> None:
    made = decode(PAGE, "page.json", records="$.data[*]")
    assert made.rows == [{"id": 1, "note": "a\nb"}, {"id": 2, "note": None}]
    assert made.types == {"id": "long", "note": "string"}


@pytest.mark.parametrize("path", ["$.data", "$.data[*]"])
def test_an_array_is_its_elements(whole: int, path: str) -> None:
    assert raw(PAGE.encode(), path, whole) == [{"id": 1, "note": "a\nb"}, {"id": 2}]


@pytest.mark.parametrize(
    ("data", "path", "expected"),
    [
        ('{"a": {"b": {"id": 1}}}', "$.a.b", [{"id": 1}]),
        ('[{"id": 1}, {"id": 2}]', "$", [{"id": 1}, {"id": 2}]),
        ('[{"id": 1}, {"id": 2}]', "$[1]", [{"id": 2}]),
        ('{"id": 1}', "$", [{"id": 1}]),
        ('{"g": [{"i": [1, 2]}, {"i": []}, {}, {"i": [3]}]}', "$.g[*].i", [1, 2, 3]),
        ('{"g": [{"i": [1, 2]}, {"i": [3]}]}', "$.g[*].i[0]", [1, 3]),
        ('{"g": [[1], [2]]}', "$.g[*]", [[1], [2]]),
        ('{"data": null}', "$.data[*]", []),
        ('{"data": []}', "$.data[*]", []),
        ('{"g": []}', "$.g[*].i", []),
        ('{"a": 1}\n{"a": 2}\n\n{"a": 3}', "$", [{"a": 1}, {"a": 2}, {"a": 3}]),
        ('{"a":\n 1} {"a": 2}', "$.a", [1, 2]),
        ('{"a b": {"ü": [7]}}', "$['a b']['ü']", [7]),
        ('{"a": {"i":\n 1}}\n{"a": {"i": 2}}', "$.a", [{"i": 1}, {"i": 2}]),
        ('{"a": {"i": 1}}\n{"a": null}\n{"a": {"i": 2}}', "$.a", [{"i": 1}, {"i": 2}]),
        ('{"a": {"i": [\n{}]}}\n{"a": null}\n{"a": {"i": 2}}', "$.a", [{"i": [{}]}, {"i": 2}]),
        ('{"a": {"i": 1}}\n{"a": [{"i": 2}, {"i": 3}]}', "$.a", [{"i": 1}, {"i": 2}, {"i": 3}]),
        ("", "$.data", []),
    ],
)
def test_paths(whole: int, data: str, path: str, expected: list[Any]) -> None:
    assert raw(data.encode(), path, whole) == expected


@pytest.mark.parametrize("data", ['{"items": [], "total": 3}', '{"items": {"data": 1}}', "[1]", "7"])
def test_a_missing_place_is_an_error_that_says_what_there_is(whole: int, data: str) -> None:
    with pytest.raises(DecodeError) as caught:
        raw(data.encode(), "$.data", whole)
    assert caught.value.what == "page.json has nothing at $.data."
    if data.startswith("{"):
        assert caught.value.hint is not None
        assert "there is: items" in caught.value.hint


def test_a_missing_place_can_be_allowed(whole: int) -> None:
    assert raw(b'{"total": 0}', "$.items[*]", whole, records_optional=True) == []


@pytest.mark.parametrize(
    "data", ['{"data": [{"id": 1}', '{"data": [{"id": 1} {"id": 2}]}', "<html></html>", '{"data" 1}']
)
def test_what_is_no_json_is_an_error_with_its_place(whole: int, data: str) -> None:
    with pytest.raises(DecodeError, match=r"page\.json is no JSON"):
        raw(data.encode(), "$.data[*]", whole)


def test_the_second_document_is_told() -> None:
    with pytest.raises(DecodeError) as caught:
        decode('{"a": [1]}\n{"b": 2}\n', "x.jsonl", records="$.a")
    assert caught.value.where == "x.jsonl, document 2"


def test_other_formats_have_no_documents() -> None:
    with pytest.raises(DecodeError, match="is csv, which has no records"):
        decode("a,b\n1,2\n", "x.csv", records="$.a")


def test_rejected_records_have_their_number_and_text() -> None:
    made = decode('{"data": [{"id": 1}, 7, {"id": 2}]}', "p.json", records="$.data")
    assert [row["id"] for row in made.rows] == [1, 2]
    assert [(line, text) for line, text, _ in made.rejected] == [(2, "7")]


def test_packed_documents_and_other_encodings() -> None:
    text = '{"data": [{"n": "ü"}]}'
    assert decode(gzip.compress(text.encode()), "p.json.gz", records="$.data").rows == [{"n": "ü"}]
    assert decode(text.encode("utf-16"), "p.json", records="$.data").rows == [{"n": "ü"}]


def test_several_pages_are_one_table_and_parts_can_be_chosen() -> None:
    feeds = [feed('{"data": [{"id": 1}]}', "page-1.json"), feed('{"data": [{"id": 2}]}', "page-2.json")]
    assert [row["id"] for row in decode(feeds, records="$.data").rows] == [1, 2]
    assert [row["id"] for row in decode(feeds, records="$.data", parts="*-2.json").rows] == [2]


def test_with_flatten_and_jsonpaths() -> None:
    data = '{"data": [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}]}'
    made = decode(data, "p.json", records="$.data[*]", flatten=True, key=("id",))
    assert made.children["tags"].rows[0]["id"] == 1
    assert decode(data, "p.json", records="$.data[*]", jsonpaths={"n": "$.id"}).rows == [{"n": 1}, {"n": 2}]


def test_deep_nesting_is_refused(whole: int) -> None:
    with pytest.raises((DecodeError, LimitError)):
        raw(b'{"data": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "$.data.x", whole)


NAMES = st.sampled_from(["a", "b", "c d", 'q"', "ü"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab\n\\"ü{}[],', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
STEPS = st.lists(NAMES | st.integers(0, 2) | st.just(Each()), max_size=3)


def written(steps: Sequence[Step]) -> str:
    """A path as text."""
    each = ("[*]" if isinstance(s, Each) else f"[{s}]" if isinstance(s, int) else f"[{json.dumps(s)}]" for s in steps)
    return "$" + "".join(each)


@given(st.lists(VALUES, max_size=3), STEPS, st.sampled_from([None, 1]))
def test_both_ways_find_what_the_path_says(documents: list[Any], steps: list[Step], indent: int | None) -> None:
    data = "\n".join(json.dumps(one, indent=indent, ensure_ascii=False) for one in documents).encode()
    expected = []
    for value in (value for one in documents for value in find_all(one, steps)):
        each = not (steps and isinstance(steps[-1], Each)) and isinstance(value, list)
        if value is not None or (steps and isinstance(steps[-1], Each)):
            expected += value if each else [value]
    for size in (0, 1 << 20):
        assert raw(data, written(steps), size, records_optional=True) == expected
