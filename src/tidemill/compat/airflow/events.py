"""Events of assets in the context: what a task says of those that it writes, and what was told of those it reads.

What a task says is kept with its xcoms and holds once the run is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidemill.authoring.place import here
from tidemill.compat.airflow.assets import Asset, AssetAlias, asset_named
from tidemill.compat.airflow.moments import in_pendulum
from tidemill.model.asset import ALIAS
from tidemill.model.errors import UserError

if TYPE_CHECKING:
    from tidemill.model import asset as told
    from tidemill.ports.tasks import Assets

#: So many events of an asset are known to those that read it.
NEWEST = 100


@dataclass
class Metadata:
    """Facts about an asset that a task has written: yielded by its function.

    Args:
        asset: it.
        extra: the facts: JSON values.
        alias: of the task's outlets, the one through which the asset is told.
    """

    asset: Any
    extra: Mapping[str, Any] = field(default_factory=dict)
    alias: Any = None


class OutletEvent:
    """What a task says of one of its outlets.

    Args:
        name: of the outlet.
        extra: facts about the asset: JSON values.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.extra: dict[str, Any] = {}
        self.added: list[dict[str, Any]] = []
        self.keys: dict[str, None] = {}

    def add(self, asset: Any, extra: Mapping[str, Any] | None = None) -> None:
        """An asset that was written, where the outlet is an alias. Raises UserError where it is none."""
        if not self.name.startswith(ALIAS):
            raise UserError(
                f'"{self.name}" is no alias: it stands for itself.',
                where=here() or None,
                hint="outlets=[AssetAlias(...)], and outlet_events[AssetAlias(...)].add(Asset(...))",
            )
        self.added.append({"asset": asset_named(asset), "extra": dict(extra or {}), "alias": self.name})

    def add_partitions(self, keys: Any) -> None:
        """The partitions of the asset that were written: each is told by itself. Raises UserError: one has no name."""
        for key in [keys] if isinstance(keys, str) else keys:
            if not isinstance(key, str) or not key:
                raise UserError(f"{key!r} is no key of a partition.", where=here() or None, hint='add_partitions("eu")')
            self.keys[key] = None


class OutletEvents(Mapping[Any, OutletEvent]):
    """`outlet_events`: by outlet, what the task says of it.

    Args:
        task: its id. `outlets`: its outlets, by name.
    """

    def __init__(self, task: str, outlets: Sequence[str]) -> None:
        self._task = task
        self._events = {name: OutletEvent(name) for name in outlets}

    def __getitem__(self, key: Any) -> OutletEvent:
        name = asset_named(key)
        if name not in self._events:
            raise UserError(
                f'"{name}" is no outlet of "{self._task}".',
                where=here() or None,
                hint=f"outlets=[{type(key).__name__}(...)] of the task",
            )
        return self._events[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def take(self, said: Metadata) -> None:
        """What the task has yielded."""
        if said.alias is not None:
            alias = AssetAlias(said.alias) if isinstance(said.alias, str) else said.alias
            self[alias].add(said.asset, said.extra)
        else:
            self[said.asset].extra.update(said.extra)

    def notes(self) -> list[dict[str, Any]]:
        """All of it, as it is kept."""
        own = [
            {"asset": name, "extra": dict(one.extra), "keys": list(one.keys)}
            for name, one in self._events.items()
            if one.extra or one.keys
        ]
        return own + [note for one in self._events.values() for note in one.added]


@dataclass(frozen=True)
class AssetEvent:
    """An asset that was told by a run that is published.

    Args:
        asset: it.
        extra: what its task said.
        timestamp: when the run ended.
        source_dag_id, source_task_id, source_run_id, source_map_index: the task that has told it.
        partition_key: the partition of it.
    """

    asset: Asset
    extra: Mapping[str, Any]
    timestamp: datetime
    source_dag_id: str
    source_task_id: str
    source_run_id: str
    source_map_index: int
    partition_key: str | None = None

    @property
    def uri(self) -> str:
        """The address of the asset."""
        return self.asset.uri


def _event(found: told.AssetEvent) -> AssetEvent:
    one = found.told
    return AssetEvent(
        Asset(one.asset),
        one.extra,
        in_pendulum(found.at),
        found.pipeline,
        one.task,
        found.run,
        one.map_index,
        one.key,
    )


class InletEvents(Mapping[Any, Sequence[AssetEvent]]):
    """`inlet_events`: by inlet, the newest events, oldest first; none where there are no others, as in a test.

    Args:
        known: the events of the project.
        inlets: the task's, by name, each with its address.
    """

    def __init__(self, known: Assets | None, inlets: Mapping[str, str]) -> None:
        self._known = known
        self._inlets = inlets
        self._found: dict[str, list[AssetEvent]] = {}

    def __getitem__(self, key: Any) -> list[AssetEvent]:
        if isinstance(key, int):  # templates ask for the n-th one
            return self[list(self._inlets)[key]]
        name = asset_named(key)
        if name not in self._found:
            events = [] if self._known is None else self._known.events([name], NEWEST)
            self._found[name] = [_event(one) for one in events]
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inlets)

    def __len__(self) -> int:
        return len(self._inlets)

    def for_asset(self, *, name: str | None = None, uri: str | None = None) -> list[AssetEvent]:
        """Those of an asset by its name or its address."""
        known = next((one for one, address in self._inlets.items() if uri is not None and address == uri), uri)
        return self[name or known or ""]

    def for_asset_alias(self, *, name: str | None = None, alias_name: str | None = None) -> list[AssetEvent]:
        """Those that were told through an alias."""
        return self[f"{ALIAS}{name or alias_name}"]


class TriggeringEvents(Mapping[Asset, Sequence[AssetEvent]]):
    """`triggering_asset_events`: for each asset whose publish began the run, its newest event.

    Args:
        known: the events of the project.
        names: the assets.
    """

    def __init__(self, known: Assets | None, names: Sequence[str]) -> None:
        self._known = known
        self._names = names
        self._found: dict[Asset, list[AssetEvent]] | None = None

    def _all(self) -> dict[Asset, list[AssetEvent]]:
        if self._found is None:
            self._found = {}
            for name in self._names:
                events = [] if self._known is None else self._known.events([name], 1)
                for one in map(_event, events):
                    self._found.setdefault(one.asset, []).append(one)
        return self._found

    def __getitem__(self, key: Any) -> list[AssetEvent]:
        return self._all()[Asset(key) if isinstance(key, str) else key]

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())
