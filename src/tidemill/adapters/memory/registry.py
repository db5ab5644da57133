"""Schemas of topics in memory, for tests: every schema is taken, whatever stood there before."""

from __future__ import annotations

from tidemill.model.errors import UnknownName
from tidemill.ports.registry import RegistrySchema


class MemoryRegistry:
    """See `Registry`. It judges nothing: that is the service's part."""

    def __init__(self) -> None:
        self._schemas: list[RegistrySchema] = []
        self._subjects: dict[str, list[RegistrySchema]] = {}

    def by_id(self, number: int) -> RegistrySchema:
        """The schema of a number. Raises UnknownName."""
        if not 1 <= number <= len(self._schemas):
            raise UnknownName.of("schema", str(number), [str(one + 1) for one in range(len(self._schemas))])
        return self._schemas[number - 1]

    def version(self, subject: str, version: int | None = None) -> RegistrySchema | None:
        """A version of a subject, the newest by default; None: there is none."""
        found = self._subjects.get(subject, [])
        at = len(found) if version is None else version
        return found[at - 1] if 1 <= at <= len(found) else None

    def id_of(self, subject: str, schema: RegistrySchema) -> int | None:
        """The number of a schema under a subject; None: it is not registered there."""
        return self._schemas.index(schema) + 1 if schema in self._subjects.get(subject, []) else None

    def register(self, subject: str, schema: RegistrySchema) -> int:
        """Register a schema as the subject's newest version, unless it is there; its number."""
        if schema not in self._schemas:
            self._schemas.append(schema)
        versions = self._subjects.setdefault(subject, [])
        if schema not in versions:
            versions.append(schema)
        return self._schemas.index(schema) + 1

    def incompatibilities(self, subject: str, schema: RegistrySchema) -> tuple[str, ...]:
        """None: nothing is compared."""
        return ()
