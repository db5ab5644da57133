"""Port `places` for an SFTP server, by paramiko: a server whose key is not known is not talked to."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

from tidemill.model.errors import SettingsError, Unreachable
from tidemill.plan.globs import Glob
from tidemill.ports.places import Found

#: Seconds for a connection, and for each answer.
_TIMEOUT = 30
#: Questions for pieces of a file that are on their way at once, of 32 kB each.
_AHEAD = 64


@dataclass(frozen=True)
class SftpServer:
    """How a server is reached.

    Args:
        host, port, login: where, and who.
        password: of the login, or of the key file.
        key_file: a private key; None: the user's own keys and agent, where there is no password.
        host_key: the server's key as `SHA256:...`; None: it is in the user's known_hosts.
    """

    host: str
    port: int = 22
    login: str = ""
    password: str | None = field(default=None, repr=False)
    key_file: str | None = None
    host_key: str | None = None

    def __str__(self) -> str:
        return f"sftp://{self.host}" + (f":{self.port}" if self.port != 22 else "")


class SftpPlace:
    """Files below a folder of a server.

    Args:
        server: it.
        root: the folder; empty: where the login begins. Whole paths begin with `/`.
    """

    def __init__(self, server: SftpServer, root: str = "") -> None:
        self._server = server
        self._root = root.rstrip("/")
        self._client: Any = None
        self._files: Any = None

    def list(self, glob: Glob) -> Iterator[Found]:
        """Files that match; only folders are looked into that can hold some."""
        if glob.is_fixed:
            found = self.look(glob.text)
            if found is not None:
                yield found
            return
        yield from self._walk(glob.base, glob)

    def _walk(self, folder: str, glob: Glob) -> Iterator[Found]:
        with self._telling():
            try:
                entries = self._sftp().listdir_attr(self._whole(folder))
            except FileNotFoundError:
                return
        for entry in entries:
            name = entry.filename
            if name in (".", "..") or "/" in name or "\0" in name:
                continue
            path = f"{folder}/{name}" if folder else name
            kind = entry.st_mode or 0
            if stat.S_ISDIR(kind):
                if glob.may_hold(path):
                    yield from self._walk(path, glob)
            elif glob.matches(path):
                found = self.look(path) if stat.S_ISLNK(kind) else _found(path, entry)
                if found is not None:
                    yield found

    def look(self, path: str) -> Found | None:
        """One file."""
        with self._telling():
            try:
                entry = self._sftp().stat(self._whole(path))
            except FileNotFoundError:
                return None
        return None if stat.S_ISDIR(entry.st_mode or 0) else _found(path, entry)

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Open a file; pieces are asked for ahead."""
        with self._telling():
            file = self._sftp().open(self._whole(found.path), "rb", bufsize=0)
            file.seek(at)
            if found.bytes is not None and not at:
                file.prefetch(found.bytes, max_concurrent_requests=_AHEAD)
        return cast(BinaryIO, _Body(file, self))

    def close(self) -> None:
        """Let the connection go."""
        client, self._client, self._files = self._client, None, None
        if client is not None:
            client.close()

    def __str__(self) -> str:
        return f"{self._server}/{self._root.lstrip('/')}".rstrip("/")

    def _whole(self, path: str) -> str:
        return f"{self._root}/{path}" if self._root and path else path or self._root or "."

    def _sftp(self) -> Any:
        if self._files is None:
            self._client = self._connected()
            self._files = self._client.open_sftp()
            self._files.get_channel().settimeout(_TIMEOUT)
        return self._files

    def _connected(self) -> Any:
        try:
            import paramiko
        except ImportError:
            raise SettingsError("The client of SFTP is not installed.", hint='pip install "tidemill[sftp]"') from None
        server = self._server
        client = paramiko.SSHClient()
        if server.host_key is None:
            client.load_system_host_keys()
        client.set_missing_host_key_policy(_known_only(server))
        own = server.password is None or server.key_file is not None
        try:
            client.connect(
                server.host,
                server.port,
                server.login or None,
                password=None if server.key_file else server.password,
                key_filename=server.key_file,
                passphrase=server.password if server.key_file else None,
                allow_agent=own and not server.key_file,
                look_for_keys=own and not server.key_file,
                timeout=_TIMEOUT,
                banner_timeout=_TIMEOUT,
                auth_timeout=_TIMEOUT,
            )
        except BaseException:
            client.close()
            raise
        return client

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors as ours; after one of the connection's, the next question connects anew."""
        try:
            yield
        except (FileNotFoundError, SettingsError):
            raise
        except PermissionError:
            raise SettingsError(
                "The server does not allow it.", where=str(self), hint="look at the file's rights"
            ) from None
        except Exception as error:
            self.close()
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> Exception:
        import paramiko

        if isinstance(error, paramiko.BadHostKeyException):
            return SettingsError(
                "The server shows another key than the one that is known: it may not be who it seems.",
                where=str(self),
                hint=f"if that is right: ?host_key={_fingerprint(error.key)} in the connection",
            )
        if isinstance(error, paramiko.AuthenticationException | paramiko.PasswordRequiredException):
            return SettingsError(
                f'The server refuses the login of "{self._server.login}".',
                where=str(self),
                hint="look at user, password and key_file of the connection",
            )
        if isinstance(error, OSError | EOFError | paramiko.SSHException):
            return Unreachable(f"The server does not answer: {error or type(error).__name__}.", where=str(self))
        return error


class _Body(io.RawIOBase):
    """An open file, with its errors as ours."""

    def __init__(self, file: Any, place: SftpPlace) -> None:
        super().__init__()
        self._file = file
        self._place = place

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        with self._place._telling():
            piece: bytes = self._file.read(1 << 20 if size is None or size < 0 else size)
        return piece

    def close(self) -> None:
        """Close it; a connection that is gone has closed it already."""
        if not self.closed:
            try:
                self._file.close()
            except Exception:
                self._place.close()
        super().close()


def _found(path: str, entry: Any) -> Found:
    modified = None if entry.st_mtime is None else datetime.fromtimestamp(entry.st_mtime, UTC)
    return Found(path, entry.st_size, modified)


def _fingerprint(key: Any) -> str:
    """A key as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode("ascii").rstrip("=")


def _known_only(server: SftpServer) -> Any:
    """What is done about a server that known_hosts does not name: only the key that the connection tells will do."""
    import paramiko

    class KnownOnly(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            shown = _fingerprint(key)
            if server.host_key is None:
                raise SettingsError(
                    "The server's key is not known.",
                    where=str(server),
                    hint=f"if it is {shown}: put ?host_key={shown} into the connection, or the server into known_hosts",
                )
            if shown != server.host_key.rstrip("="):
                raise SettingsError(
                    f"The server shows the key {shown}, and the connection says another one.",
                    where=str(server),
                    hint="it may not be who it seems",
                )

    return KnownOnly()
