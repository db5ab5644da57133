"""Emulated Redshifts for tests: over the session's PostgreSQL, with a bucket on the session's S3 server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import redshift_connector

from harness.objectstore import ObjectStore
from harness.postgres import Postgres
from harness.s3keys import KEY, SECRET
from tidemill.testing.redshift import RedshiftEmulator, Storage

ROLE = "arn:aws:iam::123456789012:role/loads"
#: An hour is long for a test, and short for what waits on an answer that never comes.
PATIENCE = timedelta(seconds=1)


@dataclass(eq=False)
class Redshift:
    """A running emulator with an empty database and an empty bucket."""

    emulator: RedshiftEmulator
    store: ObjectStore
    bucket: str

    @property
    def parts(self) -> dict[str, Any]:
        """What the driver is given."""
        parts = urlsplit(self.emulator.url)
        return {"host": self.emulator.host, "port": self.emulator.port, "user": parts.username,
                "password": parts.password, "database": parts.path.lstrip("/"), "ssl": False}  # fmt: skip

    def connect(self, **more: Any) -> Any:
        """Connect by the driver."""
        made = redshift_connector.connect(**{**self.parts, **more})
        made.autocommit = True
        return made

    def ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own; the rows of the last one."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def put(self, key: str, content: bytes | str) -> str:
        """Put an object into the bucket; its address."""
        body = content.encode() if isinstance(content, str) else content
        self.store.client.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def get(self, url: str) -> bytes:
        """The content of an object."""
        content: bytes = self.store.client.get_object(Bucket=self.bucket, Key=url.split("/", 3)[3])["Body"].read()
        return content

    def manifest(self, key: str, *urls: str, **more: Any) -> str:
        """Put a manifest; its address."""
        entries = [{"url": url, "mandatory": True, **more} for url in urls]
        return self.put(key, json.dumps({"entries": entries}))

    def copy(self, table: str, url: str, how: str = "JSON 'auto'") -> list[tuple[Any, ...]]:
        """Load by COPY, and give the table's rows."""
        self.ask(f"COPY {table} FROM '{url}' IAM_ROLE '{ROLE}' {how}")
        return self.ask(f"SELECT * FROM {table.partition('(')[0]}")

    def errors(self) -> list[tuple[Any, ...]]:
        """File, line, column, value, code and reason of what was refused so far."""
        found = self.ask(
            "SELECT trim(filename), line_number, trim(colname), trim(raw_field_value), err_code, trim(err_reason)"
            " FROM stl_load_errors ORDER BY query, filename, line_number"
        )
        return [(row[0].removeprefix(f"s3://{self.bucket}/"), *row[1:]) for row in found]


@contextlib.contextmanager
def emulating(
    server: Postgres, store: ObjectStore, *, endpoint: str | None = None, slices: int = 2,
    fault: Callable[[str], str | None] | None = None,
) -> Iterator[Redshift]:  # fmt: skip
    """Start an emulator over an empty database."""
    storage = Storage(endpoint or store.endpoint, KEY, SECRET, patience=PATIENCE)
    with RedshiftEmulator(server.new_database(), storage, roles=[ROLE], slices=slices, fault=fault) as emulator:
        yield Redshift(emulator, store, store.bucket())
