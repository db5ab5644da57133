"""Data docs: what a table promises, in words, and how that was met lately."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from tidemill.flow.facts.batches import check_facts
from tidemill.flow.facts.promises import TableDocs, docs_of
from tidemill.model.errors import UnknownName
from tidemill.web.models import CheckItem
from tidemill.web.table import Asked


class Promise(Struct):
    """A check: what it expects, what a failure does (empty: it is not declared any more), its last results."""

    name: str
    words: str
    failure: str
    results: list[CheckItem]


class PromisedColumn(Struct):
    """A declared column."""

    name: str
    type: str


class Docs(Struct):
    """What a table promises, and how that was met; `failing`: checks that failed the last time."""

    table: str
    doc: str
    made: list[str]
    columns: list[PromisedColumn]
    checks: list[Promise]
    failing: int
    published_at: datetime | None
    batch_id: int | None


def show_docs(asked: Asked) -> dict[str, Any]:
    """What a table promises, and how that was met lately."""
    name = asked.path["table"]
    with asked.backend.streams() as care, asked.backend.metadata.read() as tx:
        found = docs_of(tx, care.pipelines, name)
        if not found:
            known = [one.table for one in docs_of(tx, care.pipelines) if asked.sees(one.table.partition(".")[0])]
            raise UnknownName.of("table", name, known)
    return _facts(found[0])


def _facts(one: TableDocs) -> dict[str, Any]:
    return {
        "table": one.table, "doc": one.doc, "made": list(one.made), "failing": one.failing,
        "columns": [{"name": name, "type": kind} for name, kind in one.columns],
        "checks": [
            {"name": check.name, "words": check.words, "failure": check.failure,
             "results": [check_facts(result) for result in check.results]}
            for check in one.checks
        ],
        "published_at": one.published_at, "batch_id": one.batch_id,
    }  # fmt: skip
