"""What a run's tasks tell of assets when it is published: which, through what, and with what facts beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: An asset of this prefix is an alias: its tasks say in the run for which assets it stands.
ALIAS = "alias:"
#: The key of the xcom by which a task says more of its assets than that it has written them: a list of objects with
#: `asset`, and `extra`, `alias`, `keys` (of partitions), as they are needed.
TOLD = "_assets"
#: Before an asset's name, in what stands for the pipeline of what is kept of it: no pipeline has a dot in its name.
_HOLDER = "asset."


def holder_of(asset: str) -> str:
    """What stands for the pipeline in the record of what tasks keep of an asset."""
    return _HOLDER + asset


@dataclass(frozen=True, slots=True)
class Told:
    """An asset that an instance of a task tells.

    Args:
        asset: its name.
        task, map_index: the instance.
        extra: facts that the task gave.
        alias: the alias through which it was told, as `alias:name`.
        key: the partition of it.
    """

    asset: str
    task: str
    map_index: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    alias: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class AssetEvent:
    """An asset that was told by a run that is published.

    Args:
        told: what its task said.
        pipeline: of the run.
        run_id: Tidemill's number of the run. `run`: its name.
        at: when the run has ended.
    """

    told: Told
    pipeline: str
    run_id: int
    run: str
    at: datetime
