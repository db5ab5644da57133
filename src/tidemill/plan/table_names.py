"""Which table a person means: `pipeline.table`, or a bare name that only one pipeline has."""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.model.errors import UnknownName, UserError
from tidemill.model.table import INPUT_SUFFIX, TableName


def meant_table(text: str, known: Iterable[TableName], ref: str) -> TableName:
    """The table of a ref that is meant.

    Raises:
        UnknownName: the ref has no such table. UserError: several pipelines have one of that name.
    """
    known = set(known)
    names = sorted(str(n) for n in known if not n.table.endswith(INPUT_SUFFIX))
    if "." in text:
        name = TableName.parse(text)
        if name in known:
            return name
        raise UnknownName.of("table", text, names, where=f'branch "{ref}"')
    found = sorted(n for n in known if n.table == text)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f'"{text}" is a table of several pipelines.', hint=", ".join(map(str, found)))
    bare = {name.rpartition(".")[2]: name for name in names}
    raise UnknownName.of("table", text, bare, where=f'branch "{ref}"', offer=bare.__getitem__)
