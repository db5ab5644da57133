"""Records taken apart: flattened into a parent and children, or mapped by JSONPaths. After the readers.

    feeds -> records (nested, whatever the format) -> tables -> the contract -> chunks

No table has the records' own columns, so they are typed by the data alone, and the contract judges the tables that are
made of them. A record is taken in or rejected as a whole: with its parent and all its children, or with none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.conform import Conformed
from tidemill.adapters.arrow.decoded import Decoded, batch_of
from tidemill.adapters.arrow.fit import any_of
from tidemill.adapters.arrow.flatten import PARENT_ROW, ROW, flatten
from tidemill.adapters.arrow.jsonpath import compile_paths, project
from tidemill.adapters.arrow.seeds import Path, leaf_paths, seeds_of, with_seeds
from tidemill.model.errors import DecodeError
from tidemill.model.table import INPUT_SUFFIX, QUARANTINE_SUFFIX, Contract, OnMisfit, Schema
from tidemill.model.types import Type
from tidemill.plan.evolve import difference, misplaced, unfolds
from tidemill.plan.known import Known, relaxed
from tidemill.ports.decoder import Chunk, DecodeOptions, Rejected

#: Children may not be called as the tables that Tidemill keeps beside each table.
_RESERVED = tuple(suffix.removeprefix("__") for suffix in (QUARANTINE_SUFFIX, INPUT_SUFFIX))


class Parts:
    """How records are taken apart: `flatten`, `key`, `jsonpaths`; with both, the mapped columns are flattened.

    Raises:
        DefinitionError: a JSONPath cannot be read.
    """

    def __init__(self, options: DecodeOptions) -> None:
        self._flatten = options.flatten
        self._key = options.key
        self._paths = compile_paths(options.jsonpaths)

    def tables(self, records: pa.RecordBatch, first_row: int) -> dict[str, pa.RecordBatch]:
        """The tables of some records by child suffix; the parent has a column `_row` where no key is named.

        Raises:
            DecodeError, DefinitionError: see `flatten`; a list would give a child with a name that Tidemill uses.
        """
        return self._made(records, self._key, first_row)

    def owners(self, records: pa.RecordBatch) -> dict[str, pa.Array]:
        """For each row of each table the position of its record."""
        tables = self._made(records, (), 0)
        if not self._flatten:
            return {"": pa.arange(0, records.num_rows)}
        return {child: table.column(PARENT_ROW if child else ROW) for child, table in tables.items()}

    def _made(self, records: pa.RecordBatch, key: tuple[str, ...], first_row: int) -> dict[str, pa.RecordBatch]:
        if self._paths:
            records = project(records, self._paths)
        if not self._flatten:
            return {"": records}
        tables = flatten(records, key, first_row)
        for child in tables:
            if child.lower() in _RESERVED:
                raise DecodeError(
                    f'The list "{child}" would become a table "...__{child}", a name that Tidemill uses itself.',
                    where=child,
                    hint="rename it in the source, map the columns by jsonpaths, or load without flatten",
                )
        return tables


class Apart:
    """Makes chunks of records, block by block, in order.

    Args:
        tables: the columns of the tables that exist, by child suffix.
        contract: its columns are the parent's; its rule is everybody's.
        options: how records are taken apart.
        found: what an earlier pass found of the records.
    """

    def __init__(self, tables: Mapping[str, Schema], contract: Contract, options: DecodeOptions, found: Schema) -> None:
        self._tables = tables
        self._contract = contract
        self._parts = Parts(options)
        self._rows = 0
        self._known: dict[str, Known] = {"": self._start("")}
        self._emitted: dict[str, Mapping[str, Type]] = {}
        #: What is known of the records before the first one.
        self.records = Known.nested(found)
        self._typed = self.records
        self._seeded: set[Path] = leaf_paths(self.records)
        starts = {child: self._start(child) for child in {"", *tables}}
        self._kinds = {(child, c.name): relaxed(c.type) for child, known in starts.items() for c in known.columns}

    def _start(self, child: str) -> Known:
        rule = self._contract.on_misfit
        if child and child not in self._tables and "" in self._tables and rule != OnMisfit.EVOLVE:
            # A child that a table never had differs from it as a further column does.
            return Known(on_misfit=rule, closed=True)
        return Known.start(self._tables.get(child), Schema(), Contract(rule) if child else self._contract)

    def _split(self, records: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
        return self._parts.tables(records, 0)

    def seeded(self, records: Known) -> Known:
        """`records` with the types that tables have for new places in them, so that text is read as those.

        Without it, a first record with "2013-01-01T05:00" would make a timestamp of what is text in the table, and
        the text as it stood in the file would be gone.
        """
        new = leaf_paths(records) - self._seeded
        if not new or not self._kinds:
            return records
        self._seeded |= new
        seeds = seeds_of(records, self._split, self._kinds)
        return with_seeds(records, {path: seeds[path] for path in new & seeds.keys()})

    def chunks(self, decoded: Decoded, name: str, line: int) -> list[Chunk]:
        """The chunks of a block; what was rejected before, and now, is in the parent's.

        Args:
            decoded: the records.
            name: that of their feed.
            line: lines before the block.

        Raises:
            DecodeError, DefinitionError: see `Parts.tables`.
            BlockError: see `Conformed`.
            Differs: under `freeze`.
        """
        records, places, rejected = decoded.batch, decoded.places, list(decoded.rejected)
        while True:
            judged = self._judged(records)
            bad = self._refused(records, judged)
            if bad is None:
                break
            # What rejected records would teach does not count, so the others are judged anew.
            complaints = self._complaints(records, judged)
            assert decoded.raw is not None, "only rows of nested formats are taken apart"
            for row in pc.indices_nonzero(bad).to_pylist():
                raw = decoded.raw(places[row])
                rejected.append(Rejected(name, line + places[row] + 1, raw, complaints[row]))
            kept = pc.invert(bad)
            places = [places[row] for row in pc.indices_nonzero(kept).to_pylist()]
            records = records.filter(kept)
        self._rows += records.num_rows
        self._known.update({child: made.known for child, made in judged.items()})
        ordered = tuple(sorted(rejected, key=lambda row: row.line))
        return [
            Chunk(child, schema, batch_of(schema, made.columns, made.rows), () if child else ordered)
            for child, made in judged.items()
            if (len(schema := made.known.schema) and made.rows) or (ordered and not child)
        ]

    def emit(self, chunk: Chunk, records: Known) -> None:
        """Remember that a chunk went out, and what was known of the records."""
        self._typed = records
        self._emitted[chunk.child] = {column.name: column.type for column in chunk.schema}

    def follows(self, records: Known) -> bool:
        """Whether what went out may stay as it is, knowing this of the records and what their last block told.

        A value that went out as a scalar, where there are lists now, is a misfit that nobody has judged; lists that
        held only nulls gave no rows of a child.
        """
        old = ((column.type, records.get(column.name)) for column in self._typed.columns)
        if any(misplaced(new, kind) or unfolds(kind, new) for kind, new in old):
            return False
        return all(self._known[child].follows(types) for child, types in self._emitted.items())

    def _judged(self, records: pa.RecordBatch) -> dict[str, Conformed]:
        tables = self._parts.tables(records, self._rows)
        return {child: Conformed(rows, self._base(child)) for child, rows in tables.items()}

    def _base(self, child: str) -> Known:
        """What is known of a table. New columns have the types of the records, which hold all that came before."""
        known = self._known.get(child) or self._start(child)
        return replace(known, columns=tuple(column for column in known.columns if column.base is not None))

    def _refused(self, records: pa.RecordBatch, judged: Mapping[str, Conformed]) -> pa.Array | None:
        """The records of which a row in some table does not fit."""
        masks = [judged[""].bad]
        misfits = {child: made.bad for child, made in judged.items() if child and made.bad is not None}
        if misfits:
            owners = self._parts.owners(records)
            every = pa.arange(0, records.num_rows)
            masks += [pc.is_in(every, owners[child].filter(bad)) for child, bad in misfits.items()]
        return any_of(masks)

    def _complaints(self, records: pa.RecordBatch, judged: Mapping[str, Conformed]) -> dict[int, str]:
        """Why records do not fit, by their position."""
        complaints: dict[int, str] = {}
        owners = self._parts.owners(records)
        for child, made in judged.items():
            for row in pc.indices_nonzero(made.bad).to_pylist() if made.bad is not None else ():
                complaint = made.complaint(row)
                complaints.setdefault(owners[child][row].as_py(), f"{child}: {complaint}" if child else complaint)
        return complaints


def survey(blocks: Iterator[Decoded], tables: Mapping[str, Schema], contract: Contract, options: DecodeOptions) -> str:
    """How records differ from the tables that they become: a line for each difference, from the first to the last.

    Args:
        blocks: all records, decoded by what is known of them.
        tables: as for `Apart`, like the others.
        contract: whose rule is freeze.
        options: how records are taken apart.
    """
    parts = Parts(options)
    found: dict[str, Schema] = {}
    for decoded in blocks:
        made = parts.tables(decoded.batch, 0)
        found |= {child: Conformed(rows, Known()).known.found for child, rows in made.items()}
    lines = []
    for child, data in found.items():
        own = Known.start(tables.get(child), Schema(), Contract(contract.on_misfit) if child else contract)
        differs = difference(own.schema, data, contract)
        lines += [f"{child}: {line}" if child else line for line in differs.text.splitlines()]
    return "\n".join(lines)
