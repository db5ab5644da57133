"""Reading the keyword arguments of a user's declarations: one place that knows their names and forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar

from tidemill.authoring.place import here, placed
from tidemill.model.connector import Connector
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.pipeline import SourceKind
from tidemill.model.policy import Policy
from tidemill.model.table import (
    Contract,
    OnMisfit,
    Partition,
    PublishMode,
    Schema,
    TableName,
    TableSpec,
    WriteMode,
)
from tidemill.plan.jsonpath import Step, compile_path
from tidemill.plan.known import SYSTEM_NAMES
from tidemill.plan.path_columns import path_types
from tidemill.ports.decoder import DecodeOptions, check_format

E = TypeVar("E", bound=StrEnum)

TABLE_OPTIONS = (
    "write", "key", "order", "partition", "sort", "contract", "columns", "max_rejected", "publish",
    "surrogate_key", "delete_flag", "doc", "policy",
)  # fmt: skip


def names_of(kind: type[E], value: Any, option: str) -> E:
    """The member of an enum that the user's text names."""
    try:
        return kind(value)
    except ValueError:
        raise UnknownName.of(f"{option} mode", str(value), [m.value for m in kind], where=here()) from None


def decode_options(options: dict[str, Any], origin: object) -> Mapping[str, Any]:
    """Take the decoder's options out of `options`; `key` names the parent's key columns of flattened children.

    What follows from a declared source for its table is added to `options`.
    """
    known = {f.name for f in fields(DecodeOptions)}
    taken = {name: options.pop(name) for name in list(options) if name in known}
    if "key" in taken:
        taken["key"] = _names(taken["key"])
    if "format" in taken:
        placed(check_format, taken["format"])
    DecodeOptions(**taken)
    if taken.get("records") is not None:
        placed(records_path, taken["records"])
    if taken.get("from_path"):
        placed(path_types, taken["from_path"])
    return _connector_options(origin, taken, options) if isinstance(origin, Connector) else taken


def _connector_options(origin: Connector, decode: Mapping[str, Any], options: dict[str, Any]) -> Mapping[str, Any]:
    """The decoder's options of a declared source; what follows from it for the table is added to `options`.

    Raises:
        DefinitionError: lists are taken apart in rows that are merged, or a table goes before others of its source.
    """
    made = {**origin.decode, **decode}
    if origin.merges and "key" in made:
        options["key"] = made.pop("key")
        options.setdefault("write", "upsert")
    for name, value in origin.options.items():
        options.setdefault(name, value)
    if not origin.merges:
        return made
    if made.get("flatten") and options.get("write") != "append":
        raise DefinitionError(
            f"{origin} is written by {options['write']}, and what flattening takes apart is appended.",
            where=here(),
            hint='write="append", or leave flatten out',
        )
    if origin.together is not None and options.setdefault("publish", "run") == "table":
        raise DefinitionError(
            f"{origin} is published with the others of its source.", where=here(), hint="leave publish out"
        )
    return made


def records_path(path: str) -> tuple[Step, ...]:
    """Read `records`. Raises DefinitionError: it is no path, or one from the end of an array."""
    steps = compile_path(path, "records")
    if any(isinstance(step, int) and step < 0 for step in steps):
        raise DefinitionError(
            f'records="{path}" counts from an end, which is not known while reading.', hint="use [0], [*] and names"
        )
    return steps


def contract_of(options: dict[str, Any]) -> Contract:
    """Take `contract`, `columns` and `max_rejected` out of `options`."""
    columns = options.pop("columns", None) or {}
    rejected = options.pop("max_rejected", None)
    if rejected is not None and not _is_limit(rejected):
        raise DefinitionError(
            f"max_rejected={rejected!r} is no limit.", where=here(), hint="a count such as 100, or a share such as 0.01"
        )
    return Contract(
        on_misfit=names_of(OnMisfit, options.pop("contract", "evolve"), "contract"),
        columns=columns if isinstance(columns, Schema) else Schema.of(columns),
        max_rejected=rejected,
    )


def _is_limit(value: object) -> bool:
    """True for a count (int) and for a share (float) of less than all; 1.0 could be meant as either."""
    if isinstance(value, float):
        return 0 <= value < 1
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def table_spec(name: TableName, publish: PublishMode, options: dict[str, Any], origin: object = None) -> TableSpec:
    """Build a table's spec from the user's options; every one must be known. `origin` is that of a feed's table.

    Raises:
        DefinitionError: an option is unknown or has a wrong form.
    """
    for option in options:
        if option not in TABLE_OPTIONS:
            raise UnknownName.of("option", option, TABLE_OPTIONS, where=here())
    options = dict(options)
    contract = contract_of(options)
    partition = options.get("partition") or ()
    if isinstance(partition, str):
        partition = [partition]
    try:
        return TableSpec(
            name=name,
            write=names_of(WriteMode, options.get("write", "append"), "write"),
            key=_names(options.get("key")),
            order=options.get("order"),
            partition=tuple(Partition.parse(p) for p in partition),
            sort=_names(options.get("sort")),
            contract=contract,
            publish=names_of(PublishMode, options.get("publish", publish), "publish"),
            surrogate_key=options.get("surrogate_key"),
            delete_flag=options.get("delete_flag"),
            marks=isinstance(origin, Connector) and origin.marks_ended,
            doc=options.get("doc", ""),
            policies=policies_of(options.get("policy")),
        )
    except DefinitionError as error:
        error.where = error.where or here()
        raise


def policies_of(given: Any) -> dict[str, Policy]:
    """Read `policy`: column -> "drop", "mask(4)", "hash", "encrypt(pii-key)".

    Raises:
        DefinitionError, UnknownName: it is something else.
    """
    if not isinstance(given, Mapping | None):
        raise DefinitionError(f"policy={given!r} is none.", where=here(), hint='policy={"email": "hash"}')
    made = {str(column): placed(Policy.parse, str(text)) for column, text in (given or {}).items()}
    if SYSTEM_NAMES & made.keys():
        raise DefinitionError(
            f"{sorted(SYSTEM_NAMES & made.keys())[0]} is Tidemill's, and has no policy.", where=here()
        )
    return made


def check_source_options(name: str, files: bool, kind: SourceKind, options: Mapping[str, Any]) -> None:
    """Refuse options that this kind of source would silently ignore.

    Raises:
        DefinitionError: `archive` or `compression` of files, which are kept as they come; `on_failure` of a source
            without a bookmark.
    """
    for option in ("archive", "compression"):
        if files and option in options:
            raise DefinitionError(
                f'Source "{name}" has {option}={options[option]!r}, and its files are kept as they come.',
                where=here(),
                hint="it is for sources by a function, whose records the archive writes",
            )
    if "on_failure" in options and kind is not SourceKind.BOOKMARK:
        raise DefinitionError(
            f'Source "{name}" has on_failure={options["on_failure"]!r}, and no bookmark: its batches do not wait for '
            "each other.",
            where=here(),
            hint="it is for sources with a parameter `bookmark`",
        )


def made_table(spec: TableSpec) -> TableSpec:
    """The spec of a table that a function or SQL makes: its result fits or not as a whole.

    Raises:
        DefinitionError: contract `discard_rows`, which judges the rows of a feed.
    """
    if spec.contract.on_misfit is OnMisfit.DISCARD_ROWS:
        raise DefinitionError(
            f'Table "{spec.name}" has contract="discard_rows", which judges the rows of a feed.',
            where=here(),
            hint='declare it on the source; a table that is made takes "evolve", "freeze" or "discard_columns"',
        )
    return spec


def _names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """One column name, or several, as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
