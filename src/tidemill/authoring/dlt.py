"""`sources.dlt(...)`: resources and sources of dlt as sources. They are asked for their hints only; none runs here."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.authoring.place import here
from tidemill.model.dlt import DltFeed
from tidemill.model.errors import DefinitionError, UnknownName

_WRITES = ("append", "upsert", "replace", "history")
#: dlt's types of columns that are declared here by ours; others are left to the data.
_TYPES = {
    "text": "string",
    "double": "double",
    "bool": "boolean",
    "bigint": "long",
    "timestamp": "timestamptz",
    "date": "date",
    "time": "time",
    "binary": "binary",
}


def dlt(
    source: Any,
    *,
    args: Mapping[str, Any] | None = None,
    select: Iterable[str] = (),
    prefix: str = "",
    write: str | None = None,
    key: str | Iterable[str] | None = None,
) -> list[DltFeed]:
    """A source for each resource: `for each in sources.dlt(github()): shop.source(each)`.

    A resource is iterated over in the run, and what it yields is archived before it is loaded. Its state, that of
    `dlt.sources.incremental` included, is the bookmark: it is kept when the batch is published, and never otherwise.
    No pipeline and no destination of dlt has a part in it.

    Hints count: `write_disposition` becomes the write mode (`merge` with a key `upsert`, its strategy `scd2` `history`,
    without a key `append`), `primary_key` the key, `columns` with a `data_type` declared columns, `hard_delete` the
    column that deletes.

    Args:
        source: a resource, a source, what makes one, or where one is: `"module:attribute"`.
        args: what is handed to a function that makes it.
        select: names of resources; left out: those that dlt has selected.
        prefix: before the names of tables.
        write: a write mode, in place of what hints say.
        key: likewise.

    Raises:
        DefinitionError, UnknownName: this is no resource; hints that follow from the data; an argument is wrong.
    """
    place = here()
    made = _found(source, args, place)
    if isinstance(select, str):
        raise DefinitionError(f"select={select!r} is no list.", where=place, hint=f"select=[{select!r}]")
    if hasattr(made, "selected_resources"):
        known = dict(made.resources)
        chosen = list(select) or list(made.selected_resources)
    elif hasattr(made, "compute_table_schema"):
        known, chosen = {made.name: made}, list(select) or [made.name]
    else:
        raise DefinitionError(
            f"{type(made).__name__} is neither a resource nor a source of dlt.", where=place,
            hint="@dlt.resource, @dlt.source, or dlt.resource(rows, name=...)",
        )  # fmt: skip
    if write is not None and write not in _WRITES:
        raise UnknownName.of("write mode", write, _WRITES, where=place)
    own_key = () if key is None else (key,) if isinstance(key, str) else tuple(key)
    feeds: dict[str, DltFeed] = {}
    for name in chosen:
        if name not in known:
            raise UnknownName.of("resource", name, known, where=place)
        feed = _feed(known[name], prefix, write, own_key, place)
        if feed.name.lower() in feeds:
            raise DefinitionError(
                f'Two resources would both be called "{feed.name}".', where=place, hint="select= and prefix="
            )
        feeds[feed.name.lower()] = feed
    return list(feeds.values())


def _found(source: Any, args: Mapping[str, Any] | None, place: str) -> Any:
    """The object: imported where it is named, made where a function makes it."""
    if isinstance(source, str):
        module, colon, attribute = source.partition(":")
        if not (module and colon and attribute.isidentifier()):
            raise DefinitionError(f'"{source}" names no object.', where=place, hint='"module:attribute"')
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise DefinitionError(f'"{module}" cannot be imported: {error}.', where=place) from None
        except AttributeError:
            raise DefinitionError(f'"{module}" has no "{attribute}".', where=place) from None
    else:
        found = source
    is_made = hasattr(found, "selected_resources") or hasattr(found, "compute_table_schema")
    if callable(found) and (args or not is_made):
        return found(**(args or {}))
    return found


def _feed(resource: Any, prefix: str, write: str | None, key: tuple[str, ...], place: str) -> DltFeed:
    # The first argument of a transformer is what it is given.
    if not getattr(resource, "is_transformer", False) and getattr(resource, "requires_args", False):
        raise DefinitionError(
            f'The resource "{resource.name}" needs arguments.', where=place, hint=f"sources.dlt({resource.name}(...))"
        )
    try:
        hints = resource.compute_table_schema()
    except Exception as error:  # which of dlt's it is, is dlt's affair
        raise DefinitionError(
            f'The hints of "{resource.name}" are not known without data: {str(error).splitlines()[0]}', where=place,
            hint="give the table's name, write disposition and keys as values",
        ) from error  # fmt: skip
    columns: Mapping[str, Mapping[str, Any]] = hints.get("columns") or {}
    primary = key or tuple(name for name, column in columns.items() if column.get("primary_key"))
    mode = write or _mode(hints, primary)
    if mode in ("upsert", "history") and not primary:
        raise DefinitionError(
            f'The resource "{resource.name}" has no key by which it could be written by {mode}.', where=place,
            hint='primary_key="id" where it is declared, or key="id" here',
        )  # fmt: skip
    keyed = mode in ("upsert", "history")
    deletes = next((name for name, column in columns.items() if column.get("hard_delete")), None)
    table = re.sub(r"\W", "_", f"{prefix}{hints.get('name') or resource.name}")
    return DltFeed(resource, table, mode, primary if keyed else (), _typed(columns), deletes if keyed else None)


def _mode(hints: Mapping[str, Any], key: tuple[str, ...]) -> str:
    disposition = hints.get("write_disposition") or "append"
    if disposition != "merge":
        return "replace" if disposition == "replace" else "append"
    if not key:
        return "append"
    return "history" if hints.get("x-merge-strategy") == "scd2" else "upsert"


def _typed(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The columns whose type the hints say."""
    found: dict[str, str] = {}
    for name, column in columns.items():
        kind = str(column.get("data_type") or "")
        if kind == "decimal" and column.get("precision") is not None:
            found[name] = f"decimal({column['precision']}, {column.get('scale') or 0})"
        elif kind == "timestamp" and column.get("timezone") is False:
            found[name] = "timestamp"
        elif kind in _TYPES:
            found[name] = _TYPES[kind]
    return found
