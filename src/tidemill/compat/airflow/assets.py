"""`Asset` and its like: names of what tasks read and write. What is published under a name begins runs here, too.

An asset is known by its name; one that is given an address alone has that as its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.authoring.arguments import asset_name
from tidemill.authoring.place import here
from tidemill.authoring.schedules import published
from tidemill.model.asset import ALIAS
from tidemill.model.condition import AllOf, AnyOf, Published
from tidemill.model.errors import DefinitionError


class _Condition:
    """What `&` and `|` join."""

    def __and__(self, other: Any) -> AllOf:
        return AllOf((condition_of(self), condition_of(other)))

    def __or__(self, other: Any) -> AnyOf:
        return AnyOf((condition_of(self), condition_of(other)))

    def __rand__(self, other: Any) -> AllOf:
        return AllOf((condition_of(other), condition_of(self)))

    def __ror__(self, other: Any) -> AnyOf:
        return AnyOf((condition_of(other), condition_of(self)))


@dataclass(frozen=True, eq=False)
class Asset(_Condition):
    """Something that tasks read and write, by its name and its address (`uri`), of which one may stand for the other.

    Args:
        name: its name.
        uri: where it is: `s3://bucket/key`.
        group, extra, access_control: accepted, and not heeded.
        watchers: what tells it when something happens outside.
    """

    name: str = ""
    uri: str = ""
    group: str = "asset"
    extra: Mapping[str, Any] = field(default_factory=dict)
    access_control: Any = None
    watchers: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if not self.name and not self.uri:
            raise DefinitionError("An asset needs a name or a uri.", where=here(), hint='Asset("s3://bucket/key")')
        object.__setattr__(self, "uri", self.uri or self.name)
        object.__setattr__(self, "name", self.name or self.uri)
        if self.watchers:
            _watched[self.name] = (here().rpartition(":")[0], self)
        elif self.name in _watched and _watched[self.name][0] == here().rpartition(":")[0]:
            del _watched[self.name]  # its file has been read anew, and does not say so any more

    @staticmethod
    def ref(*, name: str = "", uri: str = "") -> Asset:
        """An asset that is described elsewhere."""
        return Asset(name, uri)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Asset) and (self.name, self.uri) == (other.name, other.uri)

    def __hash__(self) -> int:
        return hash((self.name, self.uri))


#: Assets with watchers by name, each with the file that says so: conditions of schedules know names alone.
_watched: dict[str, tuple[str, Asset]] = {}


def watched(names: Iterable[str]) -> list[Asset]:
    """Those of some assets that have watchers."""
    return [_watched[name][1] for name in names if name in _watched]


@dataclass(frozen=True)
class AssetAlias(_Condition):
    """A name that a task has among its outlets, and for which it says in the run which assets it has written."""

    name: str
    group: str = "asset"

    def __post_init__(self) -> None:
        if not self.name:
            raise DefinitionError("An alias of assets needs a name.", where=here(), hint='AssetAlias("exports")')


@dataclass(frozen=True)
class MultiAsset(_Condition):
    """The assets that one function of `@asset.multi` writes: it waits for all of them, where it is a schedule."""

    name: str
    outlets: tuple[Any, ...]


@dataclass(frozen=True)
class AssetAccessControl:
    """Accepted, and not heeded."""

    producer_teams: Any = ()
    consumer_teams: Any = ()
    allow_global: bool = True


def AssetAny(*parts: Any) -> AnyOf:  # noqa: N802  # a class there
    """Any of these."""
    return AnyOf(tuple(condition_of(one) for one in parts))


def AssetAll(*parts: Any) -> AllOf:  # noqa: N802  # a class there
    """All of these."""
    return AllOf(tuple(condition_of(one) for one in parts))


def condition_of(given: Any) -> Published | AllOf | AnyOf:
    """A condition for a schedule of an asset, or of conditions joined by `&` and `|`."""
    if isinstance(given, Published):
        return given
    if isinstance(given, AllOf | AnyOf):  # `a & b & c` has joined the third to our own condition
        return type(given)(tuple(condition_of(one) for one in given.of))
    if isinstance(given, MultiAsset):
        return AllOf(tuple(condition_of(one) for one in given.outlets))
    return published(asset_named(given))


def asset_named(one: Any) -> str:
    """What an asset is called here; an alias has a prefix. Raises DefinitionError: it is none."""
    if isinstance(one, AssetAlias):
        return f"{ALIAS}{one.name}"
    return one.name if isinstance(one, Asset) else asset_name(one)


def outlet_names(given: Any) -> tuple[str, ...]:
    """Names of the assets that a task is given as its inlets or outlets."""
    return tuple(asset_named(one) for one in _several(given))


def addresses_of(given: Any) -> dict[str, str]:
    """The same with the address of each."""
    return {asset_named(one): getattr(one, "uri", "") for one in _several(given)}


def _several(given: Any) -> list[Any]:
    several = given if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else [given]
    return [one for one in several if one is not None]
