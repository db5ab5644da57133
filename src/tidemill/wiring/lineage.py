"""Column lineage with the adapters that it needs: what knows the columns of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tidemill.flow.lineage import ColumnGraph
from tidemill.flow.query import Reading
from tidemill.flow.services import Services
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.table import Schema, TableName
from tidemill.plan.frame_lineage import ColumnsOf


def column_graph(
    specs: Iterable[PipelineSpec],
    services: Services,
    seen: Reading,
    sees: Callable[[str], bool] = lambda _: True,
) -> ColumnGraph:
    """The columns of a project's tables on a ref.

    Args:
        specs: its pipelines.
        services: the lake; it must stay this thread's as long as the graph is used.
        seen: the ref.
        sees: whether the asker may see what belongs to a pipeline.
    """

    def schema_of(table: str) -> Schema | None:
        name = TableName(*table.split(".", 1)) if "." in table else None
        if name is None or name not in seen.pointers:
            return None
        return services.catalog.load(name, seen.pointers[name]).schema

    return ColumnGraph(specs, schema_of, _columns_with, sees)


def _columns_with(known: Mapping[str, Schema]) -> ColumnsOf:
    from tidemill.adapters.polars.stream.engine import PolarsStreamEngine

    return PolarsStreamEngine(known).columns_of
