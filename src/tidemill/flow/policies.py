"""Policies of a feed's columns, around its load: what the decoder is told, what is written, what quarantine may show.

Values that have a policy are decoded as text, as they are written in the input, unless the contract says what they are:
so the same value becomes the same hash, whatever else a batch holds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

from tidemill.flow.services import Services
from tidemill.model.errors import ContractError
from tidemill.model.pipeline import SourceSpec
from tidemill.model.policy import Policy, PolicyKind, of_child, split_column
from tidemill.model.table import Column, Contract, OnMisfit, Schema, TableSpec
from tidemill.model.types import STRING
from tidemill.ports.decoder import Chunk, Rejected

#: What quarantine keeps instead of a row's text.
WITHHELD = "withheld: columns have policies; the archive has the row"
_QUOTED = re.compile(r'".*"', re.DOTALL)


class LoadPolicies:
    """The policies of one feed in one load; `of` gives None where it has none.

    Args:
        services: which change values.
        source: the feed.
    """

    def __init__(self, services: Services, source: SourceSpec) -> None:
        self._changing = services.policies
        self._source = source
        self._policies = source.table.policies
        self._closed = source.table.contract.on_misfit is not OnMisfit.EVOLVE
        #: Columns that have had a value, and all columns that there were, by child and name.
        self._valued: set[tuple[str, str]] = set()
        self._seen: set[tuple[str, str]] = set()
        #: Columns that the tables have had before.
        self._known: set[tuple[str, str]] = set()

    @classmethod
    def of(cls, services: Services, source: SourceSpec) -> LoadPolicies | None:
        """The policies of a feed; None: it has none."""
        return cls(services, source) if source.table.policies else None

    def of_table(self, child: str) -> dict[str, Policy]:
        """The policies of a table; children repeat the key of their parent, whose policies go with it."""
        found = of_child(self._policies, child)
        if child:
            keys = self._source.decode.get("key", ())
            found = {**{n: p for n, p in of_child(self._policies, "").items() if n in keys}, **found}
        return found

    def _opens(self, tables: Mapping[str, Schema]) -> bool:
        """Whether this load is what tells a table without declared columns which ones it has."""
        return self._closed and "" not in tables and not len(self._source.table.contract.columns)

    def found(self, tables: Mapping[str, Schema], found: Schema) -> Schema:
        """What is known of the input, for the decoder: columns that have a policy are text."""
        if not self._opens(tables):
            return found
        return found.with_columns(Column(name, STRING) for name in of_child(self._policies, ""))

    def contract(self, tables: Mapping[str, Schema]) -> Contract:
        """The contract for the decoder, in which columns are what they are in the input."""
        contract = self._source.table.contract
        if self._opens(tables):
            return contract  # a declared column would close it for all others
        missing = [
            Column(name, STRING)
            for name, policy in of_child(self._policies, "").items()
            if name not in contract.columns and (self._closed or policy.kind is not PolicyKind.DROP)
        ]
        return replace(contract, columns=contract.columns.with_columns(missing))

    def tables(self, tables: Mapping[str, Schema]) -> dict[str, Schema]:
        """The tables for the decoder: likewise."""
        declared = self._source.table.contract.columns
        made = dict(tables)
        self._known = {(child, column.name) for child, schema in tables.items() for column in schema}
        for child in {split_column(column)[0] for column in self._policies} | set(tables):
            if child not in tables and (not child or self._closed):
                continue
            known = made.get(child, Schema())
            plain = [
                declared[name] if not child and name in declared else Column(name, STRING)
                for name, policy in self.of_table(child).items()
                if policy.kind is not PolicyKind.DROP or self._closed
            ]
            made[child] = known.with_columns(plain)
        return made

    def chunks(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """What is decoded, as it may be written."""
        with closing(cast("Generator[Chunk, None, None]", chunks)):  # its threads end, also where a salt is missing
            for chunk in chunks:
                policies = self.of_table(chunk.child)
                batch = chunk.batch
                if batch is not None:
                    self._look(chunk.child, batch, policies)
                    batch = self._changing.apply(batch, policies)
                schema = self._changing.schema(chunk.schema, policies)
                yield replace(chunk, batch=batch, schema=schema, rejected=tuple(map(_withheld, chunk.rejected)))

    def _look(self, child: str, batch: Any, policies: Mapping[str, Policy]) -> None:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._seen.add((child, name))
            if name in policies and column.null_count < len(column):
                self._valued.add((child, name))

    def check(self) -> None:
        """Look, when all is decoded, whether a policy has missed the column that it was meant for.

        Raises:
            ContractError: it had no value, and a new column has nearly its name, or is a part of it.
        """
        for full in self._policies:
            child, name = split_column(full)
            if (child, name) in self._valued:
                continue
            for other_child, other in sorted(self._seen - self._known):
                shown = f"{other_child}.{other}" if other_child else other
                if shown not in self._policies and _meant(full, shown):
                    raise ContractError(
                        f'"{full}" has a policy and no value, and "{shown}" has none: it would be written as it is.',
                        where=self._source.place,
                        hint=f'policy={{"{shown}": "{self._policies[full]}"}}, or rename one of them',
                    )


def _meant(full: str, shown: str) -> bool:
    """Whether a column may be what a policy of nearly its name is about: a misspelt one, or a part of a struct."""
    own, other = full.lower(), shown.lower()
    near = difflib.SequenceMatcher(None, own, other).ratio() >= 0.8
    parts = tuple(own + sign for sign in ("_", ".", "__"))
    return near or other.startswith(parts)


def _withheld(row: Rejected) -> Rejected:
    """A rejected row without its text; a value of another column may be that of a column that has slipped."""
    return replace(row, raw=WITHHELD, error=_QUOTED.sub('"***"', row.error))


def as_policies_say(services: Services, chunk: Chunk, policies: Mapping[str, Policy]) -> Chunk:
    """A chunk of a feed's own table, as it may leave the archive."""
    batch = None if chunk.batch is None else services.policies.apply(chunk.batch, policies)
    schema = services.policies.schema(chunk.schema, policies)
    return replace(chunk, batch=batch, schema=schema, rejected=tuple(map(_withheld, chunk.rejected)))


def changed(
    services: Services, spec: TableSpec, schema: Schema, batches: Iterable[Any]
) -> tuple[Schema, Iterable[Any]]:
    """The rows of a result, by the policies of the table that is made of them."""
    if not spec.policies:
        return schema, batches
    policies = of_child(spec.policies, "")
    return services.policies.schema(schema, policies), (services.policies.apply(b, policies) for b in batches)
