"""Port `places` for an FTP server, plain or over TLS, by the standard library's client. Data comes in passive mode."""

from __future__ import annotations

import ftplib
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

from tidemill.adapters.fileservers.place import TIMEOUT, Body, Entry, ServerPlace
from tidemill.model.errors import Refused, SettingsError, Unreachable
from tidemill.ports.places import Found


@dataclass(frozen=True)
class FtpServer:
    """How a server is reached.

    Args:
        host, port, login, password: where, and who; an empty login: anonymous.
        tls: `ftps://`: commands and data are encrypted, and the server's certificate is looked at.
        ca_file: certificates that are trusted besides the system's.
    """

    host: str
    port: int = 21
    login: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str | None = None

    def __str__(self) -> str:
        scheme = "ftps" if self.tls else "ftp"
        return f"{scheme}://{self.host}" + (f":{self.port}" if self.port != 21 else "")


class FtpPlace(ServerPlace):
    """Files below a folder of a server.

    Args:
        server: it.
        root: the folder; empty: where the login begins. Whole paths begin with `/`.
    """

    def __init__(self, server: FtpServer, root: str = "") -> None:
        super().__init__(str(server), root)
        self._server = server
        self._client: ftplib.FTP | None = None

    def _entries(self, folder: str) -> list[Entry]:
        """What is in a folder; nothing where there is none. Old servers tell names only."""
        ftp = self._ftp()
        try:
            return [_entry(name, facts) for name, facts in ftp.mlsd(folder, ["type", "size", "modify"])]
        except ftplib.error_perm as error:
            if str(error)[:3] in ("550", "501"):
                return []
            if str(error)[:3] not in ("500", "502", "504"):
                raise
        try:
            return [Entry(name.rpartition("/")[2], "untold") for name in ftp.nlst(folder)]
        except ftplib.error_perm as error:
            if str(error)[:3] == "550":
                return []
            raise

    def look(self, path: str) -> Found | None:
        """One file: its size and its time, which most servers tell."""
        with self.telling():
            ftp, whole, modified = self._ftp(), self._whole(path), None
            ftp.voidcmd("TYPE I")
            try:
                size = ftp.size(whole)
            except ftplib.error_perm:
                return None
            with suppress(ftplib.error_perm):
                modified = _moment(ftp.sendcmd(f"MDTM {whole}")[4:].strip())
        return Found(path, size, modified)

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Begin a transfer."""
        with self.telling():
            ftp = self._ftp()
            ftp.voidcmd("TYPE I")
            try:
                connection = ftp.transfercmd(f"RETR {self._whole(found.path)}", at or None)
            except ftplib.error_perm as error:
                if str(error)[:3] == "550":
                    raise FileNotFoundError(2, "the server has no such file", found.path) from None
                raise
        return cast(BinaryIO, _Body(connection, self))

    def close(self) -> None:
        """Let the connection go."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def ended(self) -> None:
        """Take the server's word that a transfer is over. Raises Unreachable: it is not."""
        with self.telling():
            self._ftp().voidresp()

    def _whole(self, path: str) -> str:
        whole = super()._whole(path)
        if "\r" in whole or "\n" in whole:
            raise Refused(f"{path!r} is no name that can be asked for.", where=str(self))
        return whole

    def _ftp(self) -> ftplib.FTP:
        if self._client is None:
            server = self._server
            client: ftplib.FTP  # the address says whether the server can do better: ftps://, sftp://
            if server.tls:
                client = ftplib.FTP_TLS(context=self._trust(), timeout=TIMEOUT, encoding="utf-8")  # noqa: S321
            else:
                client = ftplib.FTP(timeout=TIMEOUT, encoding="utf-8")  # noqa: S321
            try:
                client.connect(server.host, server.port)
                client.login(server.login, server.password)
                if isinstance(client, ftplib.FTP_TLS):
                    client.prot_p()
            except BaseException:
                client.close()
                raise
            self._client = client
        return self._client

    def _trust(self) -> ssl.SSLContext:
        """What certificates are trusted. Raises SettingsError: the connection's file has none."""
        context, file = ssl.create_default_context(), self._server.ca_file
        if file is not None:
            try:
                context.load_verify_locations(file)
            except OSError as error:  # ssl.SSLError is one
                why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
                raise SettingsError(f'The certificates in "{file}" cannot be read: {why}.', where=str(self)) from None
        return context

    def _told(self, error: Exception) -> Exception:
        if isinstance(error, ftplib.error_perm):
            if str(error)[:3] not in ("530", "532"):
                return SettingsError(f"The server does not allow it: {str(error)[:200]}.", where=str(self))
            return SettingsError(
                f'The server refuses the login of "{self._server.login or "anonymous"}".',
                where=str(self),
                hint="look at user and password of the connection",
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return SettingsError(
                f"The server's certificate is not trusted: {error.verify_message}.",
                where=str(self),
                hint="?ca_file=... in the connection names the certificate of who has signed it",
            )
        if isinstance(error, OSError | EOFError | ftplib.Error):
            told = str(error)[:200] or type(error).__name__
            return Unreachable(f"The server does not answer: {told}.", where=str(self))
        return error


class _Body(Body):
    """The data of a transfer."""

    def __init__(self, connection: Any, place: FtpPlace) -> None:
        super().__init__(connection.makefile("rb"), place)
        self._connection = connection
        self._ended = place.ended
        self._over = False

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; at the end the server is asked whether that is the end."""
        if self._over:
            return b""
        piece = super().read(size)
        if not piece and size:
            self._over = True
            self._let_go()
            self._ended()
        return piece

    def close(self) -> None:
        """End the transfer; one that is given up takes its connection with it."""
        if not self.closed:
            self._let_go()
            if not self._over:
                self._over = True
                self._place.close()
        super().close()

    def _let_go(self) -> None:
        with suppress(OSError):
            self._stream.close()
            self._connection.close()


def _entry(name: str, facts: dict[str, str]) -> Entry:
    """What MLSD tells of a name; "" stands for what is neither a file nor a folder below."""
    kind, size = facts.get("type", "").lower(), facts.get("size", "")
    if kind == "dir":
        return Entry(name, "folder")
    if kind == "file":
        return Entry(name, "file", int(size) if size.isdigit() else None, _moment(facts.get("modify", "")))
    return Entry("" if kind else name, "untold")


def _moment(told: str) -> datetime | None:
    """A time of the protocol's, which is UTC; None: it is none."""
    with suppress(ValueError):
        return datetime.strptime(told.partition(".")[0], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return None
