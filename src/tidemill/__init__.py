"""Tidemill feeds lakes, warehouses and streams from Python. A run is a transaction: run = batch = branch.

The public names, loaded when first used, so that `import tidemill` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tidemill.version import __version__ as __version__

if TYPE_CHECKING:
    from polars import col as col
    from polars import lit as lit
    from polars import when as when

    from tidemill.authoring.dag import DAG as DAG
    from tidemill.authoring.dag import dag as dag
    from tidemill.authoring.decorators import task as task
    from tidemill.authoring.edges import chain as chain
    from tidemill.authoring.groups import TaskGroup as TaskGroup
    from tidemill.authoring.groups import task_group as task_group
    from tidemill.authoring.handles import whole as whole
    from tidemill.authoring.params import Param as Param
    from tidemill.authoring.pipeline import Pipeline as Pipeline
    from tidemill.authoring.schedules import published as published
    from tidemill.authoring.streams import topic as topic
    from tidemill.model import agg as agg
    from tidemill.model.batch import Interval as Interval
    from tidemill.model.errors import TidemillError as TidemillError
    from tidemill.model.expectation import between as between
    from tidemill.model.expectation import expect as expect
    from tidemill.model.expectation import fresh_within as fresh_within
    from tidemill.model.expectation import in_set as in_set
    from tidemill.model.expectation import matches as matches
    from tidemill.model.expectation import not_null as not_null
    from tidemill.model.expectation import references as references
    from tidemill.model.expectation import row_count as row_count
    from tidemill.model.expectation import unique as unique
    from tidemill.model.frame import Frame as Frame
    from tidemill.ports.source import RawFile as RawFile
    from tidemill.wiring.reading import query as query
    from tidemill.wiring.reading import read as read

#: Public name -> (module, name in it), grouped by what one is doing.
_PUBLIC = {
    # declaring
    "Pipeline": ("tidemill.authoring.pipeline", "Pipeline"),
    "whole": ("tidemill.authoring.handles", "whole"),
    "topic": ("tidemill.authoring.streams", "topic"),
    "RawFile": ("tidemill.ports.source", "RawFile"),
    "Interval": ("tidemill.model.batch", "Interval"),
    # transforming
    "Frame": ("tidemill.model.frame", "Frame"),
    "col": ("polars", "col"),
    "lit": ("polars", "lit"),
    "when": ("polars", "when"),
    "agg": ("tidemill.model.agg", None),
    # checking
    "expect": ("tidemill.model.expectation", "expect"),
    "not_null": ("tidemill.model.expectation", "not_null"),
    "unique": ("tidemill.model.expectation", "unique"),
    "in_set": ("tidemill.model.expectation", "in_set"),
    "between": ("tidemill.model.expectation", "between"),
    "matches": ("tidemill.model.expectation", "matches"),
    "row_count": ("tidemill.model.expectation", "row_count"),
    "references": ("tidemill.model.expectation", "references"),
    "fresh_within": ("tidemill.model.expectation", "fresh_within"),
    # declaring, task first
    "DAG": ("tidemill.authoring.dag", "DAG"),
    "dag": ("tidemill.authoring.dag", "dag"),
    "task": ("tidemill.authoring.decorators", "task"),
    "TaskGroup": ("tidemill.authoring.groups", "TaskGroup"),
    "task_group": ("tidemill.authoring.groups", "task_group"),
    "chain": ("tidemill.authoring.edges", "chain"),
    "Param": ("tidemill.authoring.params", "Param"),
    "published": ("tidemill.authoring.schedules", "published"),
    # reading
    "read": ("tidemill.wiring.reading", "read"),
    "query": ("tidemill.wiring.reading", "query"),
    # failing
    "TidemillError": ("tidemill.model.errors", "TidemillError"),
}

__all__ = [*_PUBLIC]  # texts, all of them


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        from difflib import get_close_matches

        near = get_close_matches(name, _PUBLIC, n=1)
        raise AttributeError(f'tidemill has no "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
    module, attribute = _PUBLIC[name]
    found = importlib.import_module(module)
    value = found if attribute is None else getattr(found, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
