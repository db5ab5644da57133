"""What a catalog outside lacks: from the entries that it has to the pointers of `main`.

    entries of the catalog --+
                             +-> for each table: nothing, create, replace, remove; wait, or a reason why not
    pointers of `main` ------+

An entry says itself whose it is, at which commit of `main` its pointer was read, and which pointer was put there. So an
older pointer is told from a newer one, and what another engine has committed from what was mirrored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto

from tidemill.model.delivery import CatalogMirror
from tidemill.model.errors import Refused
from tidemill.model.table import TableName

#: Parameters of an entry: Iceberg's own, which engines read ...
TABLE_TYPE, POINTER, BEFORE = "table_type", "metadata_location", "previous_metadata_location"
#: ... and ours: whose the entry is, the commit of `main` that its pointer is of, and that pointer.
OWNER, HEAD, PUT = "tidemill_mirror_of", "tidemill_main_head", "tidemill_pointer"
#: Where others' entries are told of: these have no such parameter, or another value.
_UNSAFE = re.compile(r"[^a-z0-9_]")


class Act(Enum):
    """What an entry needs."""

    #: It is as it should be.
    NOTHING = auto()
    #: There is none.
    CREATE = auto()
    #: It has another pointer.
    REPLACE = auto()
    #: `main` has no such table.
    REMOVE = auto()
    #: Whoever wrote it has seen a later commit of `main`: look again.
    OLDER = auto()


def owner_of(project: str, lake: str) -> str:
    """Whose an entry is: two projects of one name have different lakes."""
    return f"{project} {lake}"


def name_in(mirror: CatalogMirror, table: TableName) -> tuple[str, str]:
    """Database and table as the catalog calls them: small letters, digits and underscores, which need no quotes."""
    return _plain(mirror.prefix + table.namespace), _plain(table.table)


def _plain(name: str) -> str:
    return _UNSAFE.sub("_", name.lower())


def names_in(mirror: CatalogMirror, tables: Iterable[TableName]) -> dict[TableName, tuple[str, str]]:
    """The tables that are shown, and what they are called there.

    Raises:
        Refused: two of them would have one name.
    """
    made: dict[TableName, tuple[str, str]] = {}
    taken: dict[tuple[str, str], TableName] = {}
    for table in sorted(tables, key=str):
        if mirror.shows(table):
            called = made[table] = name_in(mirror, table)
            other = taken.setdefault(called, table)
            if other != table:
                raise Refused(
                    f'"{other}" and "{table}" would both be "{".".join(called)}" in the catalog.',
                    hint='name one otherwise, or leave it out: [glue] tables = ["..."]',
                )
    return made


def next_act(pointer: str | None, head: int, owner: str, parameters: Mapping[str, str] | None, called: str) -> Act:
    """What an entry needs.

    Args:
        pointer: of `main`; None: it has no such table.
        head: the commit of `main` at which that is so.
        owner: who mirrors.
        parameters: of the entry; None: there is none.
        called: the entry's name, for errors.

    Raises:
        Refused: the entry is somebody else's, or another engine has written through it.
    """
    if parameters is None:
        return Act.NOTHING if pointer is None else Act.CREATE
    if parameters.get(OWNER) != owner:
        if pointer is None:
            return Act.NOTHING
        raise Refused(
            f'The catalog has a table "{called}" that is not of this project.',
            hint='remove its entry, or give databases a name of their own: [glue] prefix = "..."',
        )
    if _number(parameters.get(HEAD, "")) > head:
        return Act.OLDER
    found = parameters.get(POINTER)
    if found != parameters.get(PUT):
        raise Refused(
            f'Another engine has written "{called}" through the catalog: what it wrote is not in the lake.',
            hint=f"keep what is needed of {found}, remove the entry (aws glue delete-table), and deliver again",
        )
    if pointer is None:
        return Act.REMOVE
    return Act.NOTHING if found == pointer else Act.REPLACE


def said_of(pointer: str, head: int, owner: str, before: str | None) -> dict[str, str]:
    """The parameters of an entry."""
    made = {TABLE_TYPE: "ICEBERG", POINTER: pointer, OWNER: owner, HEAD: str(head), PUT: pointer}
    return made if before is None else {**made, BEFORE: before}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
