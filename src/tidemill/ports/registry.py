"""Port `registry`: the schemas of topics, kept by a service under numbers that messages carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

SchemaFormat = Literal["AVRO", "PROTOBUF", "JSON"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Another schema that one builds on: the name by which it is meant there, and where it is registered."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class RegistrySchema:
    """A schema as the registry keeps it."""

    text: str
    format: SchemaFormat = "AVRO"
    references: tuple[Reference, ...] = ()


class Registry(Protocol):
    """Knows schemas by number and by subject.

    Promises:
      - What a number stands for never changes, so it is asked once.
      - A schema that is registered twice keeps its number.

    Every method raises:
        Unreachable: no answer, also after some tries.
        SettingsError: the registry does not know who asks, or refuses it.
    """

    def by_id(self, number: int) -> RegistrySchema:
        """The schema of a number.

        Raises:
            UnknownName: there is none.
        """
        ...

    def version(self, subject: str, version: int | None = None) -> RegistrySchema | None:
        """A version of a subject, the newest by default; None: there is none."""
        ...

    def id_of(self, subject: str, schema: RegistrySchema) -> int | None:
        """The number of a schema under a subject; None: it is not registered there."""
        ...

    def register(self, subject: str, schema: RegistrySchema) -> int:
        """Register a schema as the subject's newest version, unless it is there; its number.

        Raises:
            ContractError: it is incompatible with the versions before; has the registry's reasons.
            DefinitionError: the registry takes it for no schema.
        """
        ...

    def incompatibilities(self, subject: str, schema: RegistrySchema) -> tuple[str, ...]:
        """Why a schema cannot be the subject's next version; empty where it can."""
        ...
