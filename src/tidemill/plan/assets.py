"""Which assets a run tells when it is published: those of its tasks that ended well, and what these said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidemill.model.asset import ALIAS, Told
from tidemill.model.definition import Definition, Kind
from tidemill.plan.partitions import RunKey
from tidemill.plan.values import load_value


def tells(definition: Definition) -> bool:
    """Whether tasks of a pipeline have outlets that its own code names."""
    return definition.kind is Kind.TASKS and any(info.outlets for info in definition.tasks.values())


def told_by(
    definition: Definition,
    well: Iterable[tuple[str, int]],
    said: Mapping[tuple[str, int], str],
    key: RunKey | None = None,
) -> list[Told]:
    """What the tasks of a run tell.

    Args:
        definition: of the run.
        well: the instances that ended well, as task and map index.
        said: what instances said of their assets (the xcoms `model.asset.TOLD`), as texts.
        key: the partition that the run is for; what a task says of its own counts instead.
    """
    made: list[Told] = []
    for task, index in well:
        info = definition.tasks.get(task)
        if info is None or not info.outlets:
            continue
        notes = load_value(said[task, index]) if (task, index) in said else ()
        notes = [one for one in notes or () if isinstance(one, Mapping)]
        own = {one["asset"]: one for one in notes if not one.get("alias")}
        plain = [own.get(name, {"asset": name}) for name in info.outlets if not name.startswith(ALIAS)]
        for one in (*plain, *(one for one in notes if one.get("alias") in info.outlets)):
            for partition in dict.fromkeys(one.get("keys") or [None if key is None else key.key]):
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


def told_event(told: Sequence[Told], key: RunKey | None) -> dict[str, Any]:
    """What is told, as an event has it: `tables`, and where there are partitions their `keys` and the run's `date`."""
    keys = keys_told(told)
    date = key.date if key is not None else None
    made: dict[str, Any] = {"tables": names_of(told)}
    return {**made, **({"keys": keys} if keys else {}), **({"date": date.isoformat()} if keys and date else {})}
