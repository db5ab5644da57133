"""What else than time may begin a run: tables that were published, files that arrived, a call from outside."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from tidemill.model.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Published:
    """A table (`pipeline.table`) or any other asset by its name (`s3://bucket/key`) was published."""

    asset: str

    def holds(self, published: Collection[str]) -> bool:
        """Whether it is among what was published since the last run."""
        return self.asset in published

    def assets(self) -> tuple[str, ...]:
        """Every asset that is named."""
        return (self.asset,)

    def __and__(self, other: Condition) -> AllOf:
        return AllOf((self, other))

    def __or__(self, other: Condition) -> AnyOf:
        return AnyOf((self, other))


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of several conditions holds."""

    of: tuple[Condition, ...]

    def holds(self, published: Collection[str]) -> bool:
        """See `Published.holds`."""
        return all(one.holds(published) for one in self.of)

    def assets(self) -> tuple[str, ...]:
        """See `Published.assets`."""
        return tuple(dict.fromkeys(asset for one in self.of for asset in one.assets()))

    def __and__(self, other: Condition) -> AllOf:
        return AllOf((*self.of, other))

    def __or__(self, other: Condition) -> AnyOf:
        return AnyOf((self, other))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several conditions holds."""

    of: tuple[Condition, ...]

    def holds(self, published: Collection[str]) -> bool:
        """See `Published.holds`."""
        return any(one.holds(published) for one in self.of)

    def assets(self) -> tuple[str, ...]:
        """See `Published.assets`."""
        return tuple(dict.fromkeys(asset for one in self.of for asset in one.assets()))

    def __and__(self, other: Condition) -> AllOf:
        return AllOf((self, other))

    def __or__(self, other: Condition) -> AnyOf:
        return AnyOf((*self.of, other))


Condition: TypeAlias = "Published | AllOf | AnyOf"


@dataclass(frozen=True, slots=True)
class FilesArrive:
    """Files that match a pattern (relative to the project) have come, or have changed; looked for every `every`."""

    pattern: str
    every: timedelta = timedelta(seconds=10)


def condition_json(condition: Condition) -> Any:
    """A condition as JSON: a name, or `{"all": [...]}`, `{"any": [...]}`."""
    if isinstance(condition, Published):
        return condition.asset
    return {"all" if isinstance(condition, AllOf) else "any": [condition_json(one) for one in condition.of]}


def read_condition(found: Any) -> Condition:
    """What `condition_json` wrote. Raises DefinitionError."""
    if isinstance(found, str):
        return Published(found)
    if isinstance(found, dict) and len(found) == 1 and isinstance(of := next(iter(found.values())), list):
        parts = tuple(read_condition(one) for one in of)
        if "all" in found:
            return AllOf(parts)
        if "any" in found:
            return AnyOf(parts)
    raise DefinitionError(f"No condition on tables: {found!r}.", hint='"a.b", {"all": [...]} or {"any": [...]}')
