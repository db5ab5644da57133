"""What `tidemill check` looks at beyond what loading a pipeline does: SQL models, streams, and schemas of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidemill.model.errors import DefinitionError, TidemillError, UserError
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.topic_feed import TopicFeed
from tidemill.wiring.codecs import REGISTERED, open_codec

if TYPE_CHECKING:
    from tidemill.plan.sql_model import RenderedSql


def check_models(spec: PipelineSpec) -> None:
    """Raise what is wrong with the syntax of a SQL model, with its place in the template."""
    from tidemill.plan.sql_model import sample_statements
    from tidemill.plan.sql_tables import tables_in

    found: list[RenderedSql] = []
    for transform in spec.transforms.values():
        if transform.sql is not None:
            own = transform.table.name
            found += sample_statements(transform.sql, own=own, where=transform.place, params=spec.params)
    if not found:
        return
    from tidemill.adapters.duckdb.statement import parsing

    with parsing() as parse:
        for statement in found:
            tables_in(statement.sql, where=statement.where)
            parse(statement.sql, statement.where)  # sqlglot takes some of what the engine does not


def check_codecs(spec: PipelineSpec) -> None:
    """Raise what is wrong with a schema that a pipeline's sources or streams declare, at the place that declares it."""
    found: list[tuple[str, Any, str]] = []
    for source in spec.sources.values():
        if isinstance(source.origin, TopicFeed):
            rows = source.origin.rows
            found += [(rows.topic, codec, source.place) for codec in (rows.value, rows.key)]
    for stream in spec.streams.values():
        topics = [*stream.topics.values(), *([stream.to] if stream.to is not None else [])]
        found += [(topic.name, codec, stream.place) for topic in topics for codec in (topic.codec, topic.key_codec)]
    for topic, codec, place in found:
        if not isinstance(codec, REGISTERED) or codec.schema is None:
            continue
        try:
            open_codec(codec, topic)
        except TidemillError as error:
            raise DefinitionError(str(error), where=place, hint=error.hint) from None


def check_streams(spec: PipelineSpec) -> None:
    """Raise what is wrong with the steps of a stream; one that joins a table is planned when it begins."""
    for stream in spec.streams.values():
        if stream.tables:
            continue
        from tidemill.adapters.polars.stream.engine import PolarsStreamEngine
        from tidemill.flow.stream.defining import frames_of
        from tidemill.plan.topology import plan_topology

        partitions = {topic.name: topic.partitions for topic in stream.topics.values()}
        try:
            plan_topology(stream.full_name, frames_of(stream), PolarsStreamEngine({}).columns_of, partitions)
        except UserError as error:
            error.where = error.where or stream.place
            raise
