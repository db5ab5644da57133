"""What a COPY does: files, records, values, errors; the rows go to PostgreSQL by its own COPY.

Pages "COPY from Amazon S3", "Using a manifest to specify data files", "Data load operations", "COPY from columnar
data formats".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.testing.redshift.copying import Copy
from tidemill.testing.redshift.faults import Fault, unknown
from tidemill.testing.redshift.reading import Record, Target, json_paths, records
from tidemill.testing.redshift.storage import Storage
from tidemill.testing.redshift.tables import relation
from tidemill.testing.redshift.tokens import literal, quoted
from tidemill.testing.redshift.types import Type, kept_type
from tidemill.testing.redshift.values import BadValue, converted
from tidemill.testing.redshift.wire import Backend

#: Bytes of a piece that goes to PostgreSQL.
_PIECE = 1 << 16
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity <> '',
        redshift_system.noted(a.attrelid, a.attnum)->>'type', a.attrelid::bigint
    FROM pg_attribute a WHERE a.attrelid = {}::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


@dataclass(frozen=True, slots=True)
class LoadError:
    """A row that did not fit."""

    file: str
    line: int
    column: str
    type: str
    length: str
    raw: str
    value: str
    code: int
    reason: str


@dataclass
class Loading:
    """A running COPY: what it has counted."""

    copy: Copy
    storage: Storage
    table_id: int = 0
    errors: list[LoadError] = field(default_factory=list)
    rows: int = 0
    files: list[tuple[str, int]] = field(default_factory=list)

    def run(self, backend: Backend) -> None:
        """Load.

        Raises:
            Fault: nothing could be read, or too many rows did not fit.
        """
        target, required = self._target(backend)
        paths = json_paths(self._must(self.copy.how)) if self.copy.how.startswith("s3://") else None
        urls = self._urls()
        into = f"{relation(self.copy.table)} ({', '.join(map(quoted, target.names))})"
        backend.copy_in(f"COPY {into} FROM STDIN", self._pieces(urls, target, required, paths))

    def _target(self, backend: Backend) -> tuple[Target, frozenset[str]]:
        name = relation(self.copy.table)
        try:
            found = backend.ask(_COLUMNS.format(literal(name))).rows
        except Fault as fault:
            if fault.code in ("42P01", "3F000"):
                raise Fault(f"Cannot COPY into nonexistent table {'.'.join(self.copy.table)}", "42P01") from None
            raise
        known = {str(row[0]): kept_type(str(row[1]), row[4]) for row in found}
        self.table_id = int(found[0][5] or 0) if found else 0
        identities = {str(row[0]) for row in found if row[3] == "t"}
        listed = self.copy.columns or tuple(name for name in known if name not in identities)
        if identities and (not self.copy.columns or identities & set(listed)):
            raise unknown("COPY into a table with an IDENTITY column, unless a column list leaves it out")
        for one in listed:
            if one not in known:
                raise Fault(f'column "{one}" of relation "{self.copy.table[-1]}" does not exist', "42703")
        required = frozenset(str(row[0]) for row in found if row[2] == "t")
        return Target(tuple(listed), tuple(known[one] for one in listed)), required

    # -- files

    def _urls(self) -> list[str]:
        if self.copy.has("manifest"):
            return self._of_manifest()
        found = self.storage.list(self.copy.url)
        if not found:
            raise Fault(f"The specified S3 prefix '{self.copy.url}' does not exist", "XX000")
        return found

    def _of_manifest(self) -> list[str]:
        try:
            entries = json.loads(self._must(self.copy.url))["entries"]
            listed = [(str(one["url"]), bool(one.get("mandatory", False)), one.get("meta")) for one in entries]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Fault(
                f'Invalid manifest {self.copy.url}: it must have an array "entries" of objects with a url'
            ) from None
        found = []
        for url, mandatory, meta in listed:
            size = self.storage.size(url)
            if size is None:
                if mandatory:
                    raise Fault(
                        f"File {url} is mandatory, and does not exist", "XX000", "error: S3ServiceException 404"
                    )
                continue
            if self.copy.format == "parquet" and (not meta or meta.get("content_length") != size):
                raise Fault(f"Manifest entry {url} needs its content_length for a columnar format, {size}")
            found.append(url)
        if not found:
            raise Fault(f"No file of the manifest {self.copy.url} exists", "XX000")
        return found

    def _must(self, url: str) -> bytes:
        try:
            return self.storage.read(url)
        except FileNotFoundError:
            raise Fault(f"The specified S3 object '{url}' does not exist", "XX000") from None

    # -- rows

    def _pieces(
        self, urls: Sequence[str], target: Target, required: frozenset[str], paths: Sequence[str] | None
    ) -> Iterator[bytes]:
        piece = bytearray()
        for url in urls:
            scanned = 0
            for record in records(self.copy, target, self._must(url), paths):
                scanned += 1
                values = self._values(url, record, target, required)
                if values is None:
                    continue
                self.rows += 1
                piece += b"\t".join(values) + b"\n"
                if len(piece) > _PIECE:
                    yield bytes(piece)
                    piece.clear()
            self.files.append((url, scanned))
        if piece:
            yield bytes(piece)

    def _values(self, url: str, record: Record, target: Target, required: frozenset[str]) -> list[bytes] | None:
        """A row for PostgreSQL; None: it does not fit, and that is noted. Raises Fault at one too many."""
        if record.bad is not None:
            self._note(url, record, record.bad, "", None, "")
            return None
        made = []
        for name, kind, field_ in zip(target.names, target.types, record.fields, strict=True):
            try:
                text = None if field_ is None else self._converted(field_, kind)
                if text is None and name in required:
                    raise BadValue(1213, "Missing data for not-null field")
            except BadValue as bad:
                self._note(url, record, bad, name, kind, field_ or "")
                return None
            made.append(b"\\N" if text is None else _escaped(text))
        return made

    def _converted(self, text: str, kind: Type) -> str | None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            bad = text[error.start].encode("utf-8", "surrogateescape").hex()
            raise BadValue(
                1220, f"String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: {bad} (error 3)"
            ) from None
        return converted(text, kind, self.copy.options)

    def _note(self, url: str, record: Record, bad: BadValue, name: str, kind: Type | None, value: str) -> None:
        shown = "" if kind is None else kind.name.replace("character varying", "varchar").replace("character", "char")
        length = "" if kind is None or kind.size is None or kind.name == "numeric" else str(kind.size)
        raw = record.raw.rstrip("\r\n")
        self.errors.append(LoadError(url, record.line, name, shown, length, raw, value, bad.code, bad.reason))
        if len(self.errors) >= max(int(self.copy.options.get("maxerror", 0)), 1):
            raise Fault(
                f"Load into table '{self.copy.table[-1]}' failed. Check 'stl_load_errors' system table for details.",
                "XX000",
            )


def _escaped(text: str) -> bytes:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r").encode()


def noting(loading: Loading, number: int, session: int) -> list[str]:
    """The statements that fill the system tables after COPY number so-and-so."""
    made = []
    for one in loading.errors:
        values: list[Any] = [
            1, 0, loading.table_id, None, session, number, one.file[-256:], one.line, one.column, one.type[:10],
            one.length, 0, _dots(one.raw)[:1024], one.value.encode("utf-8", "replace").decode()[:1024], one.code,
            one.reason[:100], 0, 0, -1,
        ]  # fmt: skip
        shown = ["(now() AT TIME ZONE 'UTC')" if place == 3 else _value(value) for place, value in enumerate(values)]
        made.append(f"INSERT INTO redshift_system.stl_load_errors VALUES ({', '.join(shown)})")  # noqa: S608 - literals
    return made


def _value(value: Any) -> str:
    return str(value) if isinstance(value, int) else literal(str(value).replace("\0", ""))


def _dots(text: str) -> str:
    """Raw data as the system tables show it: a period for each character of several bytes."""
    return "".join(one if one.isascii() and one != "\0" else "." for one in text)
