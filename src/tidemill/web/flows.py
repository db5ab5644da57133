"""Flows: what the tasks of all pipelines read and write, in one answer."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tidemill.web.table import Asked

#: Tasks in one answer: of more, no page could draw a part.
_MOST = 20_000


class Flow(Struct):
    """A task that reads or writes tables, or assets of any name."""

    pipeline: str
    task: str
    inlets: list[str]
    outlets: list[str]


class Flows(Struct):
    """Tasks that read or write, by pipeline, in the order of its graph; `more`: there are more than these."""

    flows: list[Flow]
    more: bool


def list_flows(asked: Asked) -> dict[str, Any]:
    """Of the newest definitions: one look at the database for all of them."""
    with asked.backend.metadata.read() as tx:
        records = [one for one in tx.definitions.pipelines() if asked.sees(one.name)]
        known = tx.definitions.get_all(record.definition_id for record in records)
    made = ((record.name, known[record.definition_id]) for record in sorted(records, key=lambda one: one.name))
    flows = [
        Flow(pipeline, id_, list(found.tasks[id_].inlets), list(found.tasks[id_].outlets))
        for pipeline, found in made
        for id_ in found.graph.nodes
        if found.tasks[id_].inlets or found.tasks[id_].outlets
    ]
    return {"flows": flows[:_MOST], "more": len(flows) > _MOST}
