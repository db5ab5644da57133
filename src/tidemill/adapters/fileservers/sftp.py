"""Port `places` for an SFTP server, by paramiko: a server whose key is not known is not talked to."""

from __future__ import annotations

import base64
import hashlib
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

from tidemill.adapters.fileservers.place import TIMEOUT, Body, Entry, ServerPlace
from tidemill.model.errors import SettingsError, Unreachable
from tidemill.ports.places import Found

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


class SftpPlace(ServerPlace):
    """Files below a folder of a server.

    Args:
        server: it.
        root: the folder; empty: where the login begins. Whole paths begin with `/`.
    """

    def __init__(self, server: SftpServer, root: str = "") -> None:
        super().__init__(str(server), root)
        self._server = server
        self._client: Any = None
        self._files: Any = None

    def _entries(self, folder: str) -> list[Entry]:
        try:
            return [_entry(one) for one in self._sftp().listdir_attr(folder)]
        except FileNotFoundError:
            return []

    def look(self, path: str) -> Found | None:
        """One file."""
        with self.telling():
            try:
                entry = self._sftp().stat(self._whole(path))
            except FileNotFoundError:
                return None
        return None if stat.S_ISDIR(entry.st_mode or 0) else Found(path, entry.st_size, _moment(entry))

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Open a file; pieces are asked for ahead."""
        with self.telling():
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

    def _sftp(self) -> Any:
        if self._files is None:
            self._client = self._connected()
            self._files = self._client.open_sftp()
            self._files.get_channel().settimeout(TIMEOUT)
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
                timeout=TIMEOUT,
                banner_timeout=TIMEOUT,
                auth_timeout=TIMEOUT,
            )
        except BaseException:
            client.close()
            raise
        return client

    def _told(self, error: Exception) -> Exception:
        import paramiko

        if isinstance(error, PermissionError):
            return SettingsError("The server does not allow it.", where=str(self), hint="look at the file's rights")
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


class _Body(Body):
    """An open file."""

    def close(self) -> None:
        """Close it; a connection that is gone has closed it already."""
        if not self.closed:
            try:
                self._stream.close()
            except Exception:
                self._place.close()
        super().close()


def _entry(told: Any) -> Entry:
    mode = told.st_mode or 0
    if stat.S_ISDIR(mode):
        return Entry(told.filename, "folder")
    return Entry(told.filename, "link" if stat.S_ISLNK(mode) else "file", told.st_size, _moment(told))


def _moment(told: Any) -> datetime | None:
    return None if told.st_mtime is None else datetime.fromtimestamp(told.st_mtime, UTC)


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
