"""Which assets a run tells when it is published: those of its tasks that ended well, and what these said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.model.asset import ALIAS, Told
from tidemill.model.definition import Definition, Kind
from tidemill.plan.partitions import RunKey


def tells(definition: Definition) -> bool:
    """Whether tasks of a pipeline have outlets that its own code names."""
    return definition.kind is Kind.TASKS and any(info.outlets for info in definition.tasks.values())


def told_by(
    definition: Definition,
    well: Iterable[tuple[str, int]],
    notes: Mapping[tuple[str, int], Any],
    key: str | None = None,
) -> list[Told]:
    """What the tasks of a run tell.

    Args:
        definition: of the run.
        well: the instances that ended well, as task and map index.
        notes: what instances said of their assets (`model.asset.TOLD`).
        key: the partition that the run is for; what a task says of its own counts instead.
    """
    made: list[Told] = []
    for task, index in well:
        info = definition.tasks.get(task)
        if info is None or not info.outlets:
            continue
        said = [one for one in notes.get((task, index)) or () if isinstance(one, Mapping)]
        own = {one["asset"]: one for one in said if not one.get("alias")}
        plain = [own.get(name, {"asset": name}) for name in info.outlets if not name.startswith(ALIAS)]
        for one in (*plain, *(one for one in said if one.get("alias") in info.outlets)):
            for partition in dict.fromkeys(one.get("keys") or [key]):
                made.append(Told(one["asset"], task, index, one.get("extra") or {}, one.get("alias"), partition))
    return made


def keys_told(told: Iterable[Told]) -> dict[str, list[str]]:
    """The partitions that are told, by asset."""
    made: dict[str, dict[str, None]] = {}
    for one in told:
        if one.key is not None:
            for name in (one.asset, *([one.alias] if one.alias else ())):
                made.setdefault(name, {})[one.key] = None
    return {name: list(keys) for name, keys in made.items()}


def names_of(told: Iterable[Told]) -> list[str]:
    """The assets that are told, and the aliases through which: others may wait for either."""
    return sorted({name for one in told for name in (one.asset, one.alias) if name})


def keys_with_date(told: Iterable[Told], key: RunKey | None) -> dict[str, Any]:
    """The partitions that are told and the date of the run's own, as an event has them; empty where there are none."""
    keys = keys_told(told)
    date = key.date if key is not None else None
    return {**({"keys": keys} if keys else {}), **({"date": date.isoformat()} if keys and date else {})}
