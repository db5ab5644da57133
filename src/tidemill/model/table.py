"""Tables: names, columns, schemas, write modes, contracts, and the data files that a scan reads.

These values cross every layer: a decoder gets a `Schema`, the lake returns a `Scan`, an engine reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tidemill.model.errors import DefinitionError
from tidemill.model.policy import Policy
from tidemill.model.types import BOOLEAN, LONG, TIMESTAMPTZ, Type, parse_type

#: Column of every table: the batch that wrote the row.
BATCH_ID = "_batch_id"
#: Column of every table: when the row was loaded (UTC). Left out when replays are compared.
LOADED_AT = "_loaded_at"
#: Column of input tables: position of the row within its batch, the last tie-breaker of the order.
ROW = "_row"
#: Column of input tables: true where the row says "this key is gone".
DELETED = "_deleted"
#: Column of input tables: the declared order column's value, or the interval's end.
ORDER = "_order"

QUARANTINE_SUFFIX = "__quarantine"
INPUT_SUFFIX = "__input"

#: What names may look like: they become folders, SQL identifiers and catalog rows.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,126}")


def check_name(name: str, kind: str) -> str:
    """Return `name` if it can name a `kind` (letters, digits, underscore; no leading digit).

    Raises:
        DefinitionError: the name does not fit.
    """
    if not _NAME.fullmatch(name):
        fixed = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "x"
        fixed = f"_{fixed}" if fixed[0].isdigit() else fixed
        raise DefinitionError(
            f'"{name}" cannot name a {kind}: use letters, digits and underscores.', hint=f'"{fixed[:127]}"'
        )
    return name


#: Schemas that SQL keeps for itself, the branch that everybody reads, and the system tables.
_RESERVED_SCHEMAS = frozenset(
    ("information_schema", "main", "memory", "pg_catalog", "pg_temp", "pg_toast", "system", "temp", "tidemill")
)
#: What the engine calls a pipeline's tables where a statement reads only this batch's rows.
_BATCH_SUFFIX = "__batch"


def check_pipeline_name(name: str) -> str:
    """Return `name` if it can name a pipeline: also a schema in SQL.

    Raises:
        DefinitionError: it does not fit, or SQL or Tidemill means something else by it.
    """
    check_name(name, "pipeline")
    if name.lower() in _RESERVED_SCHEMAS or name.lower().endswith(_BATCH_SUFFIX):
        meant = "is Tidemill's own" if name.lower() == "tidemill" else "means something else"
        free = name[: -len(_BATCH_SUFFIX)] if name.lower().endswith(_BATCH_SUFFIX) else f"{name}_data"
        raise DefinitionError(
            f'"{name}" cannot name a pipeline: in SQL, "{name}.<table>" {meant}.',
            hint=f'"{free}"',
        )
    return name


def check_table_name(name: str, kind: str) -> str:
    """Return `name` if it can name a `kind` of table.

    Raises:
        DefinitionError: it does not fit, or is that of a table which Tidemill makes beside another one.
    """
    check_name(name, kind)
    for suffix, what in ((QUARANTINE_SUFFIX, "the rejected rows"), (INPUT_SUFFIX, "all rows ever given to it")):
        if name.lower().endswith(suffix):
            owner = name[: -len(suffix)]
            raise DefinitionError(
                f'"{name}" cannot name a {kind}: it is where "{owner}" keeps {what}.',
                hint=f'"{owner}_{suffix.strip("_")}"',
            )
    return name


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """`<pipeline>.<table>`: a namespace, which is the pipeline's name, and a table in it."""

    namespace: str
    table: str

    @classmethod
    def parse(cls, text: str, default_namespace: str | None = None) -> TableName:
        """Read `pipeline.table`, or a bare `table` inside `default_namespace`.

        Raises:
            DefinitionError: the text is no table name.
        """
        namespace, dot, table = text.rpartition(".")
        namespace = namespace if dot else default_namespace or ""
        if not dot and not namespace:
            raise DefinitionError(f'"{text}" names no pipeline.', hint=f'write "<pipeline>.{text}"')
        if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(table):
            raise DefinitionError(f'"{text}" is no name of a table.', hint='"table" or "pipeline.table"')
        return cls(namespace, table)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.table}"

    @property
    def quarantine(self) -> TableName:
        """The table that holds this table's rejected rows."""
        return replace(self, table=self.table + QUARANTINE_SUFFIX)

    @property
    def input(self) -> TableName:
        """The append-only table that keeps every row ever given to this upsert or history table."""
        return replace(self, table=self.table + INPUT_SUFFIX)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, type, and Iceberg's field id once it has one (the id survives renames)."""

    name: str
    type: Type
    nullable: bool = True
    field_id: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.type}" + ("" if self.nullable else " not null")


@dataclass(frozen=True, slots=True)
class Schema:
    """Columns in order. Names are unique, also when case is ignored."""

    columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, columns: Mapping[str, str | Type]) -> Schema:
        """Build a schema from `{"name": "type"}`; a type that ends in ` not null` forbids nulls.

        Raises:
            DefinitionError: a type cannot be read, or two names differ only in case.
        """
        made = []
        for name, kind in columns.items():
            nullable = True
            if isinstance(kind, str):
                text = kind.strip()
                if text.lower().endswith(" not null"):
                    nullable, text = False, text[: -len(" not null")]
                kind = parse_type(text)
            made.append(Column(name, kind, nullable))
        schema = cls(tuple(made))
        schema.check_unique()
        return schema

    def check_unique(self) -> None:
        """Raise `DefinitionError` where two columns have one name, or names that differ only in case."""
        seen: dict[str, str] = {}
        for column in self.columns:
            other = seen.setdefault(column.name.lower(), column.name)
            if other is not column.name:
                raise DefinitionError(
                    f'Columns "{other}" and "{column.name}" have the same name (case is ignored).',
                    hint="rename one of them in the source",
                )

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return any(c.name == name for c in self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def get(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((c for c in self.columns if c.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(c.name for c in self.columns)

    def with_columns(self, columns: Iterable[Column]) -> Schema:
        """This schema with `columns` added at its end; one that exists is replaced in its place."""
        new = {c.name: c for c in columns}
        kept = tuple(new.pop(c.name, c) for c in self.columns)
        return Schema((*kept, *new.values()))

    def without(self, names: Iterable[str]) -> Schema:
        """This schema without the columns `names`."""
        gone = set(names)
        return Schema(tuple(c for c in self.columns if c.name not in gone))


#: The columns that Tidemill adds to every table.
SYSTEM_COLUMNS = (Column(BATCH_ID, LONG), Column(LOADED_AT, TIMESTAMPTZ))
#: What an input table has beyond those; `_order` has the type of the declared order column.
INPUT_COLUMNS = (Column(ROW, LONG), Column(DELETED, BOOLEAN))


def split_name(table: str) -> tuple[str | None, str]:
    """The schema (None: the connection's own) and the name of `schema.name`.

    Raises:
        DefinitionError: it is neither `name` nor `schema.name`.
    """
    parts = table.split(".")
    if len(parts) > 2 or not all(parts):
        raise DefinitionError(f'"{table}" cannot name a table there.', hint='"name" or "schema.name"')
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


class WriteMode(StrEnum):
    """How a batch's rows enter a table (rule 7)."""

    #: The batch's own rows are replaced, others stay.
    APPEND = "append"
    #: One row a key: the newest by (order, batch id, row position) stays.
    UPSERT = "upsert"
    #: The whole table is replaced.
    REPLACE = "replace"
    #: Slowly changing dimension, type 2: every version of a key with `valid_from, valid_to, is_current`.
    HISTORY = "history"


class PublishMode(StrEnum):
    """When tables of a run become visible on `main` (rule 12)."""

    #: All of the run's tables together, after all tasks and checks.
    RUN = "run"
    #: Each table when its own checks pass; tables of one source together with its bookmark.
    TABLE = "table"


class OnMisfit(StrEnum):
    """What a contract does with data that does not fit the table."""

    #: Add nullable columns and widen types; rows that still do not fit go to quarantine.
    EVOLVE = "evolve"
    #: Refuse the batch and show the difference.
    FREEZE = "freeze"
    #: Drop unknown columns; rows of a wrong type go to quarantine.
    DISCARD_COLUMNS = "discard_columns"
    #: Rows with unknown columns or wrong types go to quarantine.
    DISCARD_ROWS = "discard_rows"


@dataclass(frozen=True, slots=True)
class Contract:
    """What a table accepts.

    Args:
        on_misfit: what happens to data that does not fit.
        columns: declared columns; they fix names and types beforehand. Others follow `on_misfit`.
        max_rejected: how many rows may go to quarantine before the run fails: a count (int) or a share of
            the batch (float below 1). None: any number.
    """

    on_misfit: OnMisfit = OnMisfit.EVOLVE
    columns: Schema = Schema()
    max_rejected: int | float | None = None


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition transform: `identity`, `year`, `month`, `day`, `hour`, `bucket` or `truncate` of a column."""

    transform: str
    column: str
    parameter: int | None = None

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Read `day(time_hour)`, `bucket(16, carrier)`, `truncate(4, code)` or a bare `country`.

        Raises:
            DefinitionError: the text is no partition transform.
        """
        text = text.strip()
        if "(" not in text:
            return cls("identity", text)
        found = re.fullmatch(r"(year|month|day|hour|identity)\(\s*([^,()]+?)\s*\)", text)
        if found:
            return cls(found[1], found[2])
        found = re.fullmatch(r"(bucket|truncate)\(\s*(\d+)\s*,\s*([^,()]+?)\s*\)", text)
        if found and int(found[2]) > 0:
            return cls(found[1], found[3], int(found[2]))
        raise DefinitionError(
            f'"{text}" is no partition transform.',
            hint='"day(time)", "month(time)", "bucket(16, id)", "truncate(4, code)" or a column name',
        )

    def __str__(self) -> str:
        if self.transform == "identity":
            return self.column
        inner = self.column if self.parameter is None else f"{self.parameter}, {self.column}"
        return f"{self.transform}({inner})"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """How a table is declared: everything about it but its columns, which the data brings.

    `key` is required for upsert and history. `order` is the column that ranks rows of one key; None ranks by
    the interval's end. Both then fall back to batch id and row position (rule 7).
    """

    name: TableName
    write: WriteMode = WriteMode.APPEND
    key: tuple[str, ...] = ()
    order: str | None = None
    partition: tuple[Partition, ...] = ()
    sort: tuple[str, ...] = ()
    contract: Contract = field(default_factory=Contract)
    publish: PublishMode = PublishMode.RUN
    #: Name of the column with a surrogate key of each version (history tables); None for no such column.
    surrogate_key: str | None = None
    #: Column that says "this key is gone" when true (upsert and history).
    delete_flag: str | None = None
    #: The rows are a log of changes (`model/cdc.py`): deletes, truncates, and values that were not sent.
    changes: bool = False
    #: Rows of versions that have ended (`plan/row_versions.py`) stay, marked with the time.
    marks: bool = False
    #: The table whose nested lists this one holds the elements of, made by flattening a source.
    parent: TableName | None = None
    doc: str = ""
    #: What happens to values before they are written, by column; `items.email` is one of a flattened child.
    policies: Mapping[str, Policy] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.write in (WriteMode.UPSERT, WriteMode.HISTORY) and not self.key:
            raise DefinitionError(
                f'Table "{self.name}" is written by {self.write} and has no key.',
                hint='name the columns that identify a row: key=["id"]',
            )


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a table, as a scan reads it. `path` is the address that engines open."""

    path: str
    rows: int
    bytes: int
    #: The one batch whose rows the file holds; None where it mixes batches (upsert, replace, history).
    batch_id: int | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """What an engine needs to read a table, or part of it: files, and columns with field ids.

    A file may lack columns (added later) or hold them under an older name; field ids decide. Files come in the
    order in which their rows were committed.
    """

    name: TableName
    schema: Schema
    files: tuple[DataFile, ...]
    snapshot_id: int | None = None
    #: Restrict rows to this batch (files that mix batches need it; for others it is implied).
    batch_id: int | None = None
    #: Field ids below the columns, by path: `("items", "element", "sku")`; a map has `key` and `value`.
    nested_ids: tuple[tuple[tuple[str, ...], int], ...] = ()
    #: True where matching nested fields by name would give wrong values (another tool renamed or re-used one).
    nested_by_id_only: bool = False

    @property
    def rows(self) -> int:
        """Rows in the files, before any restriction to a batch."""
        return sum(f.rows for f in self.files)
