"""Where files of a feed lie: from its pattern and its connection to the adapter.

files("in/*.csv")                              below the project
files("s3://bucket/in/*.csv")                  as section [s3] says
files("https://host/day.csv")
files("sftp://me@host/in/*.csv")               with the keys of whoever runs this
files("in/*.csv", connection="partner")        TIDEMILL_CONN_PARTNER=sftp://me:secret@host/upload
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tidemill.model.errors import SettingsError, UnknownName
from tidemill.model.pipeline import FILE_SCHEMES, FilesOrigin, SourceSpec
from tidemill.plan.template import render_path
from tidemill.ports.source import ExtractRequest, Source
from tidemill.ports.tasks import Connections
from tidemill.wiring.object_settings import bucket_of, open_bucket
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.ports.clock import Clock
    from tidemill.ports.places import Place


def open_feed(
    spec: SourceSpec, origin: FilesOrigin, settings: Settings, connections: Connections, clock: Clock
) -> Source:
    """The source of a feed of files.

    Raises:
        SettingsError, UnknownName: the connection is missing, of another kind, or lacks something.
    """
    from tidemill.flow.files import FilesSource

    root, path = split(origin.pattern)

    def place() -> Place:
        try:
            return open_place(root, origin.connection, settings, connections, spec.place)
        except SettingsError as error:
            error.where = error.where or spec.place
            raise

    def render(request: ExtractRequest) -> str:
        return render_path(path, request.batch, request.parameters, where=spec.place)

    return FilesSource(spec, place, render, clock)


def split(pattern: str) -> tuple[str, str]:
    """The address of the place that a pattern begins with, or nothing; and the path in it."""
    scheme, sign, rest = pattern.partition("://")
    if not sign:
        return "", pattern
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}", path


def open_place(root: str, connection: str | None, settings: Settings, connections: Connections, where: str) -> Place:
    """A place, by the address that the pattern begins with, and by the connection."""
    found: Mapping[str, Any] | None = None
    if connection is not None:
        found = connections.get(connection)
        if found is None:
            error = UnknownName.of("connection", connection, (), where=where)
            error.hint = f"set TIDEMILL_CONN_{connection.upper()}=sftp://user:password@host/folder"
            raise error
    scheme = urlsplit(root).scheme or ("" if found is None else found["conn_type"])
    if scheme == "" or (scheme == "file" and found is not None):
        from tidemill.adapters.localfs.place import LocalPlace

        return LocalPlace(settings.root / (found["schema"] if found else ""), where)
    if scheme in ("s3", "aws"):
        from tidemill.adapters.s3.place import S3Place

        return S3Place(open_bucket(_bucket_url(root, found, where), settings.objects, connections, connection))
    if scheme not in FILE_SCHEMES or (found is not None and found["conn_type"] not in FILE_SCHEMES):
        kind = scheme if found is None else found["conn_type"]
        raise SettingsError(
            f'No files can be taken from "{kind}".', where=where, hint="one of: " + ", ".join(FILE_SCHEMES)
        )
    if found is not None and root and found["conn_type"] != scheme:
        raise SettingsError(
            f'The connection "{connection}" is of kind "{found["conn_type"]}", and the pattern begins with {scheme}://.',
            where=where,
            hint="leave the beginning of the pattern out",
        )
    return _remote(scheme, root, found)


def _bucket_url(root: str, found: Mapping[str, Any] | None, where: str) -> str:
    if root:
        return root
    named = "" if found is None else bucket_of(found)[0]
    if not named:
        raise SettingsError("The connection names no bucket.", where=where, hint="s3://KEY:SECRET@/bucket/prefix")
    return f"s3://{named}"


def _remote(scheme: str, root: str, found: Mapping[str, Any] | None) -> Place:
    """A server of another kind, by the pattern's address or by the connection's."""
    parts = urlsplit(root)
    host, port = parts.hostname or "", parts.port
    login, password, folder, extra = unquote(parts.username or ""), "", "", {}
    if found is not None:
        own = (host, port, login)
        host, port = found["host"] if not host else own[0], found["port"] if not own[0] else own[1]
        login, password, extra = own[2] or found["login"], found["password"], dict(found["extra"])
        folder = found["schema"] if not root else ""
        if own[0] and own[0] != found["host"]:
            raise SettingsError(
                f"The connection is one to {found['host']}, and its password goes to no other host.",
                hint="leave the beginning of the pattern out",
            )
    if not host:
        raise SettingsError("The connection names no host.", hint=f"{scheme}://user:password@host/folder")
    if scheme in ("http", "https"):
        from tidemill.adapters.http.place import HttpPlace

        shown = f"[{host}]" if ":" in host else host
        base = f"{scheme}://{shown}{f':{port}' if port else ''}/{folder.strip('/')}"
        return HttpPlace(base, login, password, extra)
    # A path begins where the login does; a second slash makes it a whole one.
    if scheme == "sftp":
        from tidemill.adapters.fileservers.sftp import SftpPlace, SftpServer

        # A fingerprint may have a plus, which stands for a space in an address.
        key = extra["host_key"].replace(" ", "+") if "host_key" in extra else None
        server = SftpServer(host, port or 22, login, password or None, extra.get("key_file"), key)
        return SftpPlace(server, folder)
    from tidemill.adapters.fileservers.ftp import FtpPlace, FtpServer

    ftp = FtpServer(host, port or 21, login, password, tls=scheme == "ftps", ca_file=extra.get("ca_file"))
    return FtpPlace(ftp, folder)
