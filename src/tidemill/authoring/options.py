"""Reading the keyword arguments of a user's declarations: one place that knows their names and forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar

from tidemill.authoring.place import here
from tidemill.model.errors import DefinitionError, UnknownName
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
from tidemill.ports.decoder import DecodeOptions

E = TypeVar("E", bound=StrEnum)

TABLE_OPTIONS = (
    "write", "key", "order", "partition", "sort", "contract", "columns", "max_rejected", "publish",
    "surrogate_key", "delete_flag", "doc",
)  # fmt: skip


def names_of(kind: type[E], value: Any, option: str) -> E:
    """The member of an enum that the user's text names."""
    try:
        return kind(value)
    except ValueError:
        raise UnknownName.of(f"{option} mode", str(value), [m.value for m in kind], where=here()) from None


def decode_options(options: dict[str, Any]) -> Mapping[str, Any]:
    """Take the decoder's options out of `options`; `key` names the parent's key columns of flattened children."""
    known = {f.name for f in fields(DecodeOptions)}
    taken = {name: options.pop(name) for name in list(options) if name in known}
    if "key" in taken:
        taken["key"] = _names(taken["key"])
    DecodeOptions(**taken)
    return taken


def contract_of(options: dict[str, Any]) -> Contract:
    """Take `contract`, `columns` and `max_rejected` out of `options`."""
    columns = options.pop("columns", None) or {}
    rejected = options.pop("max_rejected", None)
    if rejected is not None and (isinstance(rejected, bool) or not isinstance(rejected, int | float) or rejected < 0):
        raise DefinitionError(
            f"max_rejected={rejected!r} is no limit.", where=here(), hint="a count such as 100, or a share such as 0.01"
        )
    return Contract(
        on_misfit=names_of(OnMisfit, options.pop("contract", "evolve"), "contract"),
        columns=columns if isinstance(columns, Schema) else Schema.of(columns),
        max_rejected=rejected,
    )


def table_spec(name: TableName, publish: PublishMode, options: dict[str, Any]) -> TableSpec:
    """Build a table's spec from the user's options; every one must be known.

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
            doc=options.get("doc", ""),
        )
    except DefinitionError as error:
        error.where = error.where or here()
        raise


def _names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """One column name, or several, as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
