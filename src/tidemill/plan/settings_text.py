"""Adds to the text of a `tidemill.toml`, and leaves the rest of it as its owner has written it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_HEADER = r"^[ \t]*\[{name}\][ \t]*(?:#.*)?$"
_PIPELINES = re.compile(r"""^[ \t]*pipelines[ \t]*=[ \t]*(?:\[[^\]]*\]|"[^"\n]*"|'[^'\n]*')""", re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def with_values(text: str, section: str, values: Mapping[str, Any]) -> str:
    """A text with more keys in a section, which is made where it is not there.

    Args:
        text: the file.
        section: its name.
        values: texts, numbers, true or false, lists of texts; their keys must not be in the section yet.
    """
    if not values:
        return text
    lines = "".join(f"{_key(name)} = {_value(value)}\n" for name, value in values.items())
    found = re.search(_HEADER.format(name=re.escape(section)), text, re.MULTILINE)
    if found is None:
        gap = "" if not text else ("\n" if text.endswith("\n") else "\n\n")
        return f"{text}{gap}[{section}]\n{lines}"
    rest = text[found.end() :].removeprefix("\n")
    return f"{text[: found.end()]}\n{lines}{rest}"


def with_patterns(text: str, before: Sequence[str], more: str) -> str:
    """A text with one more pattern in `[project] pipelines`, which had these before."""
    made = f"pipelines = {_value([*before, more])}"
    header = re.search(_HEADER.format(name="project"), text, re.MULTILINE)
    if header is None:
        return with_values(text, "project", {"pipelines": [*before, more]})
    end = re.search(r"^[ \t]*\[", text[header.end() :], re.MULTILINE)
    stop = len(text) if end is None else header.end() + end.start()
    body = text[header.end() : stop]
    changed, count = _PIPELINES.subn(lambda _: made, body, count=1)
    if not count:
        return with_values(text, "project", {"pipelines": [*before, more]})
    return text[: header.end()] + changed + text[stop:]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
