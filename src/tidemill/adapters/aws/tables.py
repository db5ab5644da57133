"""Port `mirror` on the Data Catalog of AWS Glue: Iceberg tables that Athena, EMR and Redshift Spectrum read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tidemill.adapters.aws.client import Login, translated
from tidemill.model.errors import Conflict
from tidemill.model.table import Column
from tidemill.model.types import Decimal, List, Map, Primitive, Struct, Type
from tidemill.ports.mirror import Entry, Shown

#: Hive's names of types. It has none for times of a day and for UUIDs; engines take types from Iceberg's metadata.
_NAMES = {
    "boolean": "boolean", "int": "int", "long": "bigint", "float": "float", "double": "double", "date": "date",
    "time": "string", "timestamp": "timestamp", "timestamptz": "timestamp", "string": "string", "binary": "binary",
    "uuid": "string", "unknown": "string",
}  # fmt: skip


class GlueTables:
    """The catalog of one account in one region.

    Args:
        login: who asks, and where.
        catalog: the account whose catalog it is; None: that of who asks.
    """

    def __init__(self, login: Login, catalog: str | None = None) -> None:
        self._login = login
        self._of = {} if catalog is None else {"CatalogId": catalog}

    @cached_property
    def _glue(self) -> Any:
        return self._login.client("glue")

    def entries(self, database: str) -> dict[str, Entry] | None:
        """The tables of a database by name."""
        from botocore.exceptions import ClientError

        with translated():
            try:
                pages = self._glue.get_paginator("get_tables").paginate(DatabaseName=database, **self._of)
                return {one["Name"]: _entry(one) for page in pages for one in page["TableList"]}
            except ClientError as error:
                if error.response["Error"]["Code"] == "EntityNotFoundException":
                    return None
                raise

    def make_database(self, name: str) -> None:
        """Make a database, unless there is one."""
        given = {"Name": name, "Description": "Tables of a Tidemill lake, to be read."}
        with translated(), _expecting("AlreadyExistsException"):
            self._glue.create_database(DatabaseInput=given, **self._of)

    def create(self, database: str, table: Shown) -> None:
        """Add a table."""
        with translated():
            self._glue.create_table(DatabaseName=database, TableInput=_input(table, None), **self._of)

    def replace(self, database: str, table: Shown, before: Entry) -> None:
        """Change a table, if its version is still the one that was looked at."""
        with translated():
            self._glue.update_table(
                DatabaseName=database,
                TableInput=_input(table, before),
                VersionId=before.version or self._version(database, before),
                # Iceberg has the history; Glue counts each version that is kept against a quota.
                SkipArchive=True,
                **self._of,
            )

    def _version(self, database: str, before: Entry) -> str:
        """The version of an entry that is as it was. Raises Conflict: it is not."""
        now = _entry(self._glue.get_table(DatabaseName=database, Name=before.name, **self._of)["Table"])
        if now.parameters != before.parameters:
            raise Conflict(f"{database}.{before.name} has changed meanwhile.")
        return now.version

    def remove(self, database: str, name: str) -> None:
        """Take a table out of the catalog, if it is there."""
        with translated(), _expecting("EntityNotFoundException"):
            self._glue.delete_table(DatabaseName=database, Name=name, **self._of)


class _expecting:  # noqa: N801 - it reads as a part of a sentence
    """An error that says that things are already as they should be."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> bool:
        response: Mapping[str, Any] = getattr(error, "response", {})
        return bool(response.get("Error", {}).get("Code") == self._code)


def _entry(found: Mapping[str, Any]) -> Entry:
    columns: Sequence[Mapping[str, Any]] = found.get("StorageDescriptor", {}).get("Columns", ())
    comments = {one["Name"]: one["Comment"] for one in columns if one.get("Comment")}
    version, description = str(found.get("VersionId") or ""), str(found.get("Description") or "")
    return Entry(found["Name"], version, found.get("Parameters") or {}, comments, description)


def _input(table: Shown, before: Entry | None) -> dict[str, Any]:
    """A table as Glue is told of it. What people have written about it there stays."""
    known = before or Entry(table.name, "")
    made = {
        "Name": table.name,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {**known.parameters, **table.parameters},
        "StorageDescriptor": {
            "Columns": [_column(column, known.comments.get(column.name, "")) for column in table.columns],
            "Location": table.location,
        },
    }
    return made | ({"Description": known.description} if known.description else {})


def _column(column: Column, comment: str) -> dict[str, Any]:
    parameters = {"iceberg.field.id": str(column.field_id), "iceberg.field.optional": "true",
                  "iceberg.field.current": "true"}  # fmt: skip
    made = {"Name": column.name, "Type": hive_type(column.type), "Parameters": parameters}
    return made | ({"Comment": comment} if comment else {})


def hive_type(kind: Type) -> str:
    """A type as Glue writes it."""
    match kind:
        case Primitive(name):
            return _NAMES[name]
        case Decimal(precision, scale):
            return f"decimal({precision},{scale})"
        case List(element):
            return f"array<{hive_type(element)}>"
        case Map(key, value):
            return f"map<{hive_type(key)},{hive_type(value)}>"
        case Struct(fields):
            return f"struct<{','.join(f'{name}:{hive_type(part)}' for name, part in fields)}>"
