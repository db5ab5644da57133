"""Emulated Redshifts for tests: over the session's PostgreSQL, with a bucket on the session's S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redshift_connector

from harness.landing import Landing
from harness.objectstore import ObjectStore
from harness.postgres import Postgres
from harness.s3keys import KEY, SECRET
from tidemill.adapters.redshift.destination import RedshiftDestination
from tidemill.adapters.s3.bucket import Bucket
from tidemill.adapters.s3.files import S3Files
from tidemill.model.redshift import Copying
from tidemill.testing.redshift import RedshiftEmulator, Storage

ROLE = "arn:aws:iam::123456789012:role/loads"
#: An hour is long for a test, and short for what waits on an answer that never comes.
PATIENCE = timedelta(seconds=1)


@dataclass(eq=False)
class Redshift:
    """A running emulator with an empty database and an empty bucket.

    Args:
        emulator: the server.
        store: the S3 server.
        bucket: in it.
        kept: the address of the PostgreSQL behind the emulator.
    """

    emulator: RedshiftEmulator
    store: ObjectStore
    bucket: str
    kept: str

    @property
    def parts(self) -> dict[str, Any]:
        """What the driver is given."""
        parts = urlsplit(self.emulator.url)
        return {"host": self.emulator.host, "port": self.emulator.port, "user": parts.username,
                "password": parts.password, "database": parts.path.lstrip("/"), "ssl": False}  # fmt: skip

    @property
    def connection(self) -> str:
        """The address of a connection of Tidemill's; keys of the bucket come from the environment."""
        endpoint = urlsplit(self.store.endpoint)
        os.environ["TIDEMILL_CONN_TEST_STORE"] = f"s3://{KEY}:{SECRET}@{endpoint.netloc}?http=true&region=us-east-1"
        return f"{self.emulator.url}?ssl=false&bucket=s3://{self.bucket}/waiting&iam_role={ROLE}&s3=test_store"

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


def destination(place: Redshift, **how: Any) -> RedshiftDestination:
    """The destination, with its files in the bucket."""
    endpoint = how.pop("endpoint", place.store.endpoint)
    bucket = Bucket(
        place.bucket, "waiting", endpoint=endpoint, region="us-east-1", key=KEY, secret=SECRET, patience=PATIENCE
    )
    return RedshiftDestination(place.parts, S3Files(bucket), Copying(**{"role": ROLE, **how}))


def redshift_landing(place: Redshift) -> Landing:
    """An emulated Redshift for the suite of destinations; it is asked where PostgreSQL keeps its rows."""

    def ask(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(place.kept, options="-c TimeZone=UTC", autocommit=True) as connection:
            # Redshift folds names in quotes, too.
            folded = re.sub(r'"(?:[^"]|"")*"', lambda found: found[0].lower(), query)
            made = connection.execute(folded.encode())
            return made.fetchall() if made.description else []

    return Landing("redshift", lambda: destination(place), ask)


@contextlib.contextmanager
def emulating(
    server: Postgres, store: ObjectStore, *, endpoint: str | None = None, slices: int = 2,
    fault: Callable[[str], str | None] | None = None,
) -> Iterator[Redshift]:  # fmt: skip
    """Start an emulator over an empty database."""
    storage = Storage(endpoint or store.endpoint, KEY, SECRET, patience=PATIENCE)
    kept = server.new_database()
    with RedshiftEmulator(kept, storage, roles=[ROLE], slices=slices, fault=fault) as emulator:
        yield Redshift(emulator, store, store.bucket(), kept)
