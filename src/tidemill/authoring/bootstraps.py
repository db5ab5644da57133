"""`bootstrap=` of a stream: what its first start reads before what its topics still have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tidemill.authoring.handles import Whole
from tidemill.authoring.place import here
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.topic import Topic
from tidemill.model.stream import Bootstrap, TableBefore
from tidemill.model.table import TableName

_HINT = 'bootstrap="archive", or tm.whole("table", until=...), or these by parameter'


def read_bootstrap(value: Any, stream: str, topics: Mapping[str, Topic], pipeline: str) -> dict[str, Bootstrap]:
    """By parameter: what comes before its topic.

    Raises:
        DefinitionError: it is none, or its topic has no such past.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        if isinstance(value, Whole) and len(topics) > 1:
            raise DefinitionError(
                f'Stream "{stream}" reads {len(topics)} topics: of which is the table the past?',
                where=here(),
                hint=f"bootstrap={{{next(iter(topics))!r}: tm.whole(...)}}",
            )
        value = dict.fromkeys(topics, value)
    found: dict[str, Bootstrap] = {}
    for parameter, one in value.items():
        if parameter not in topics:
            raise DefinitionError(
                f'bootstrap: stream "{stream}" has no topic "{parameter}".', where=here(), hint=", ".join(topics)
            )
        found[parameter] = _one(one, topics[parameter], pipeline)
    return found


def _one(value: Any, topic: Topic, pipeline: str) -> Bootstrap:
    if value == "archive":
        if topic.archive is None:
            raise DefinitionError(
                f'bootstrap="archive": topic "{topic.name}" is not archived.',
                where=here(),
                hint=f'tm.topic("{topic.name}", ..., archive=True)',
            )
        return "archive"
    if not isinstance(value, Whole):
        raise DefinitionError(f"bootstrap={value!r} is not known.", where=here(), hint=_HINT)
    by_offset = value.partition is not None and value.offset is not None
    if not value.table or by_offset == (value.until is not None) or (value.partition is None) != (value.offset is None):
        raise DefinitionError(
            "bootstrap: a table of the past says where it ends.",
            where=here(),
            hint='tm.whole("table", until="2026-01-01T00:00Z"), or tm.whole("table", partition="p", offset="o") with '
            "the columns that say which message a row was",
        )
    until = _time(value.until)
    if until is not None and topic.time is None:
        raise DefinitionError(
            f'bootstrap: until= goes by the time of topic "{topic.name}", which has none.',
            where=here(),
            hint=f'tm.topic("{topic.name}", ..., time="<column>")',
        )
    table = TableName.parse(value.table, pipeline)
    return TableBefore(table, value.partition or "", value.offset or "", until)


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise DefinitionError(
            f"bootstrap: until={value!r} is no time with a zone.", where=here(), hint='until="2026-01-01T00:00:00Z"'
        )
    return found
