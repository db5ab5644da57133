"""A tap's output taken apart: each line in one run, as it came, and judged as a plain reader of JSON judges it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidemill.adapters.singer.lines import runs_of

_TEXT = st.text('aä"\\\n\x00', max_size=3)
_SIMPLE = st.sampled_from([None, True, 0, -(2**70), 1.5, "a", "ä\n", [], [{}], {"a": {}}])
_OBJECTS = st.dictionaries(_TEXT, _SIMPLE, max_size=2)
_MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(["RECORD", "RECORD", "RECORD", "SCHEMA", "STATE", "NEW", "ACTIVATE_VERSION"])},
    optional={
        "stream": st.sampled_from(["a", "b"]),
        "record": _OBJECTS | _SIMPLE,
        "value": _SIMPLE,
        "version": st.sampled_from([1, 2]),
    },
)
_LINES = (
    _MESSAGES.map(lambda message: json.dumps(message).encode())
    | _MESSAGES.map(lambda message: json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))
    | _MESSAGES.map(lambda message: json.dumps(message).encode()[:-3])
    | st.binary(max_size=20).filter(lambda data: b"\n" not in data)
    | st.just(b"")
    | st.just(b"  ")
)


def judged(line: bytes) -> tuple[str, Any]:
    """Type and stream of a line, by Python's own JSON; "" for what is no message."""
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return "", None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "", None
    stream, record = message.get("stream"), message.get("record")
    if record is not None and not isinstance(record, dict):
        return "", stream
    if message["type"] == "RECORD" and (record is None or stream is None):
        return "", stream
    if message["type"] == "ACTIVATE_VERSION" and (stream is None or "version" not in message):
        return "", stream
    return message["type"], stream


@given(st.lists(_LINES, max_size=12), st.booleans())
def test_each_line_is_in_one_run_as_it_came(lines, ended):
    """Whatever stands between: nothing is lost, changed or moved."""
    block = b"\n".join(lines) + (b"\n" if ended else b"")
    runs = list(runs_of(block))
    for run in runs:
        versions = {json.loads(line).get("version") for line in run.lines if run.type}
        assert versions in (set(), {run.version})
    found = [(run.type, run.stream, line) for run in runs for line in run.lines]
    assert [line for *_, line in found] == [line for line in lines if line.strip()]
    for kind, stream, line in found:
        assert (kind, stream) == judged(line)


def test_a_block_of_one_stream_goes_as_it_is():
    """The usual case: no line is looked at by itself."""
    block = b'{"type": "RECORD", "stream": "a", "record": {"id": 1}}\n' * 3
    (run,) = runs_of(block)
    assert (run.type, run.stream, run.data, run.count) == ("RECORD", "a", block, 3)
