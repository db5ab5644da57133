"""What is no resource of its own: search over names, connections' names, health, metrics."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import PlainTextResponse, Response

from tidemill.model.branch import MAIN, RefState
from tidemill.model.errors import TidemillError
from tidemill.version import __version__
from tidemill.web.table import LARGEST_ID, Asked, Query
from tidemill.web.topics import sees_topic

#: The newest results of checks whose names are known to the search, as many as the page of quality has.
_RESULTS = 2_000


class ConnectionItem(Struct):
    """A connection: what it is called and where it is from, never what it is."""

    name: str
    kind: str
    host: str
    origin: str
    error: str | None


class Connections(Struct):
    """Connections by name."""

    connections: list[ConnectionItem]


class Hit(Struct):
    """Something whose name fits; `kind`: pipeline, task, table, check, stream, topic, branch; of a number: run, batch.

    `table` is that of a check.
    """

    kind: str
    name: str
    pipeline: str | None
    table: str | None = None


class Hits(Struct):
    """What was found; names that begin so come first."""

    query: str
    hits: list[Hit]


class Health(Struct):
    """The server answers."""

    status: str
    version: str
    project: str


class SearchQuery(Query, frozen=True, kw_only=True):
    """What to look for."""

    q: Annotated[str, Meta(min_length=1, max_length=200, description="a part of a name")]
    limit: Annotated[int, Meta(ge=1, le=200)] = 20


def list_connections(asked: Asked) -> dict[str, Any]:
    """Connections: kind, host, and where they are from."""
    from tidemill.wiring.connection_care import listed_connections

    found = listed_connections(asked.backend.settings)
    listed = [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in found]
    return {"connections": listed}


def search(asked: Asked) -> dict[str, Any]:
    """What has a text in its name: pipelines, tasks, tables, checks, streams, topics, branches; runs and batches by
    number.
    """
    text = asked.query.q.lower()
    found: list[Hit] = []
    with asked.backend.metadata.read() as tx:
        records = [one for one in tx.definitions.pipelines() if asked.sees(one.name)]
        known = tx.definitions.get_all(one.definition_id for one in records)
        pointers = [*tx.refs.pointers(MAIN), *tx.refs.views(MAIN)]
        refs = tx.refs.all(states=[RefState.OPEN, RefState.FAILED]) if asked.sees(None) else []
        runs = tx.runs.listed(run_ids=[int(text)]) if _is_number(text) else []
        batch = tx.batches.get(int(text)) if _is_number(text) else None
        checks = {(one.table, one.name) for one in tx.checks.recent(limit=_RESULTS)}
    found += [Hit("run", text, one.pipeline) for one in runs if asked.sees(one.pipeline)]
    if batch is not None and asked.sees(batch.key.pipeline):
        found.append(Hit("batch", text, batch.key.pipeline))
    for record in records:
        made = known[record.definition_id]
        found.append(Hit("pipeline", record.name, record.name))
        found += [Hit("stream", f"{record.name}.{stream}", record.name) for stream in made.streams]
        found += [Hit("task", task, record.name) for task in made.tasks]
    found += [Hit("table", str(name), name.namespace) for name in pointers if asked.sees(name.namespace)]
    found += [Hit("check", name, of.namespace, str(of)) for of, name in checks if asked.sees(of.namespace)]
    found += [Hit("branch", ref.name, None) for ref in refs]
    if any(made.streams for made in known.values()):
        found += _topics(asked)
    hits = [hit for hit in found if text in hit.name.lower()]
    hits.sort(
        key=lambda hit: (not hit.name.lower().startswith(text), len(hit.name), hit.name, hit.kind, hit.table or "")
    )
    return {"query": asked.query.q, "hits": hits[: asked.query.limit]}


def _topics(asked: Asked) -> list[Hit]:
    """Topics that streams use; what the technology has besides is not asked for at every letter that is typed."""
    try:
        with asked.backend.streams() as care:
            used = care.topics_used()
    except TidemillError:  # a file that cannot be read, which its pipeline's page tells, hides nothing else
        return []
    return [Hit("topic", name, None) for name, streams in used.items() if sees_topic(asked, streams)]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) <= LARGEST_ID


def health(asked: Asked) -> Health:
    """Whether the process lives; nothing is asked of anybody else."""
    return Health("ok", __version__, asked.backend.settings.name)


def ready(asked: Asked) -> Health:
    """Whether the database answers, so that requests can be carried out."""
    with asked.backend.metadata.read() as tx:
        tx.refs.get(MAIN)
    return Health("ready", __version__, asked.backend.settings.name)


def metrics(asked: Asked) -> Response:
    """The installation's metrics, for Prometheus."""
    return PlainTextResponse(asked.backend.metrics(), media_type="text/plain; version=0.0.4")
