"""Nested columns apart: structs become columns, lists become child tables. Between the readers and the contract.

Whole columns are moved, never single rows, so that the cost is that of copying the keys of the child rows.
Arrow leaves two traps in a list array, and both are met here: a slice shares the values of the array that it
was cut from, and a null list may still own values (`list_parent_indices` counts them, `flatten` does not).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.normal import is_list, list_offsets
from tidemill.model.errors import DecodeError, DefinitionError, UnknownName

#: Column of the parent where no key is named: its position in the batch's input, from 0.
ROW = "_row"
#: What child rows carry of it.
PARENT_ROW = "_parent_row"
#: Column of child rows: position in the list, from 0. A list further up is named: `_pos_items`.
POSITION = "_pos"
#: What a table's name cannot hold.
_NO_NAME = re.compile(r"[^A-Za-z0-9_]+")
#: Column of a child whose list holds no structs.
VALUE = "value"

_HINT = "rename one of them in the source, map the columns by jsonpaths, or load without flatten"


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column of a table that is being made. `path` is where it stands below the table's own row."""

    path: tuple[str, ...]
    array: Any

    @property
    def name(self) -> str:
        return "_".join(self.path)


def flatten(batch: pa.RecordBatch, key: tuple[str, ...], first_row: int) -> dict[str, pa.RecordBatch]:
    """Take `batch` apart into a parent and child tables without structs, lists and maps.

    Args:
        batch: decoded rows.
        key: columns of the flattened parent that identify a row; empty where there are none.
        first_row: position in the batch's input of the first row.

    Returns:
        Tables by the child's suffix. `""` is the parent: `_row` where there is no key, then its columns; a struct's
        fields become columns `<field>_<sub>`, and a null struct cannot be told from one of nulls. Each list, and each
        map (with columns `key` and `value`), becomes a child: its suffix is the path of field names joined by `__`
        (`items`, `items__tags`), with `_` for what no table's name can hold; its columns are the parent's key columns
        (or `_parent_row`), `_pos_<suffix>` for each list around it, `_pos`, then the elements' fields, or `value`. A
        field of the elements that has the name of one of the former is prefixed with the list's name (`items_id`).
        Null and empty lists give no rows. A list of which only nulls are known gives no column `value`: a later batch
        may bring structs.

    Raises:
        DecodeError: two columns, or two children, would have one name.
        UnknownName, DefinitionError: `key` names no column of the flattened parent, or a list.
    """
    tables: dict[str, pa.RecordBatch] = {}
    own, lists = _apart(zip(batch.schema.names, batch.columns, strict=True))
    numbers = () if key else (_Leaf((ROW,), pa.arange(first_row, first_row + batch.num_rows)),)
    tables[""] = _table((), own, numbers, batch.num_rows)
    if lists:
        carried = _identity(tables[""], key, lists)
        for nested in lists:
            _add_child(tables, nested, (), carried)
    return tables


def _apart(columns: Iterable[tuple[str, Any]]) -> tuple[list[_Leaf], list[_Leaf]]:
    """Columns without structs, and lists (maps as lists of key and value), in the order of the fields."""
    own: list[_Leaf] = []
    lists: list[_Leaf] = []
    for leaf in _unfold((), columns):
        (lists if is_list(leaf.array.type) else own).append(leaf)
    return own, lists


def _unfold(path: tuple[str, ...], columns: Iterable[tuple[str, Any]]) -> Iterator[_Leaf]:
    for name, array in columns:
        here = (*path, name)
        if pa.types.is_struct(array.type):
            names = [field.name for field in array.type]
            # `flatten` puts the struct's own nulls and offset into its fields; `field` would not.
            yield from _unfold(here, zip(names, array.flatten(), strict=True))
        elif pa.types.is_map(array.type):
            yield _Leaf(here, _entries(array))
        else:
            yield _Leaf(here, array)


def _entries(array: Any) -> Any:
    """A map array as a list array of structs, which is how it is stored.

    Put together from its buffers: PyArrow 26 aborts in `cast` from map to list where a slice holds a null column.
    """
    pairs = pa.StructArray.from_arrays([array.keys, array.items], ["key", VALUE])
    return pa.Array.from_buffers(
        pa.list_(pairs.type), len(array), array.buffers()[:2], offset=array.offset, children=[pairs]
    )


def _identity(parent: pa.RecordBatch, key: tuple[str, ...], lists: list[_Leaf]) -> list[_Leaf]:
    """What child rows carry of their parent, one value for each parent."""
    if not key:
        return [_Leaf((PARENT_ROW,), parent.column(ROW))]
    for name in key:
        if any(leaf.name == name for leaf in lists):
            raise DefinitionError(
                f'The key column "{name}" holds lists, which become a table of their own.',
                hint="name columns with one value a row",
            )
        if name not in parent.schema.names:
            raise UnknownName.of("key column", name, parent.schema.names)
    return [_Leaf((name,), parent.column(name)) for name in key]


def _add_child(tables: dict[str, pa.RecordBatch], nested: _Leaf, above: tuple[str, ...], carried: list[_Leaf]) -> None:
    """Add the child of one list, and those of the lists within it.

    Args:
        tables: what was made so far.
        nested: the list, its path below the table `above`.
        above: the path of the table that holds the list.
        carried: what that table's rows hand down.
    """
    path = (*above, *nested.path)
    suffix = "__".join(_NO_NAME.sub("_", part) for part in path)
    if suffix in tables:
        raise DecodeError(f'Flattening gives two child tables "{suffix}".', where=".".join(path), hint=_HINT)
    parents, positions = _rows_of(nested.array)
    elements = nested.array.flatten()
    down = [_Leaf(leaf.path, leaf.array.take(parents)) for leaf in carried]
    if pa.types.is_struct(elements.type):
        fields = zip([field.name for field in elements.type], elements.flatten(), strict=True)
    else:
        fields = zip([VALUE], [elements], strict=True)
    own, lists = _apart(fields)
    # Only nulls so far: the elements' type is unknown, so it must not fix a column that structs would not have.
    own = [leaf for leaf in own if not (leaf.path == (VALUE,) and pa.types.is_null(elements.type))]
    tables[suffix] = _table(path, own, (*down, _Leaf((POSITION,), positions)), len(elements))
    down.append(_Leaf((f"{POSITION}_{suffix}",), positions))
    for inner in lists:
        _add_child(tables, inner, path, down)


def _rows_of(nested: Any) -> tuple[Any, Any]:
    """For each element of the lists: the row that its list stands in, and its position in the list."""
    offsets = list_offsets(nested)
    elements = pa.arange(0, offsets[-1].as_py())
    # A list array of our own making has neither an offset nor nulls, so its parent indices are right.
    parents = pc.list_parent_indices(pa.ListArray.from_arrays(offsets, elements))
    return parents, pc.subtract(elements, offsets.take(parents))


def _table(path: tuple[str, ...], own: list[_Leaf], carried: tuple[_Leaf, ...], rows: int) -> pa.RecordBatch:
    """Make a table of what its rows carry and its own columns; `path` is that of its list, () for the parent."""
    columns: dict[str, Any] = {leaf.name: leaf.array for leaf in carried}
    reserved = {name.lower() for name in columns}
    fields: dict[str, _Leaf] = {}
    for leaf in own:
        name = f"{path[-1]}_{leaf.name}" if leaf.name.lower() in reserved else leaf.name
        other = fields.setdefault(name.lower(), leaf)
        # Names that stood beside each other in the data and differ in case are the contract's affair.
        if name in columns or (other is not leaf and (len(other.path) > 1 or len(leaf.path) > 1)):
            first = name if other is leaf else ".".join((*path, *other.path))
            raise DecodeError(
                f'Flattening gives two columns "{name}": from "{first}" and "{".".join((*path, *leaf.path))}".',
                hint=_HINT,
            )
        columns[name] = leaf.array
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.nulls(rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
