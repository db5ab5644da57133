"""Port `places` for an FTP server, plain or over TLS, by the standard library's client. Data comes in passive mode."""

from __future__ import annotations

import ftplib
import io
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

from tidemill.model.errors import Refused, SettingsError, Unreachable
from tidemill.plan.globs import Glob
from tidemill.ports.places import Found

#: Seconds for a connection, and for each answer.
_TIMEOUT = 30


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


class FtpPlace:
    """Files below a folder of a server.

    Args:
        server: it.
        root: the folder; empty: where the login begins. Whole paths begin with `/`.
    """

    def __init__(self, server: FtpServer, root: str = "") -> None:
        self._server = server
        self._root = root.rstrip("/")
        self._client: ftplib.FTP | None = None

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
            entries = self._entries(folder)
        for name, facts in entries:
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                continue
            path = f"{folder}/{name}" if folder else name
            kind = facts.get("type", "").lower()
            if kind == "dir":
                if glob.may_hold(path):
                    yield from self._walk(path, glob)
            elif kind == "file" and glob.matches(path):
                yield _found(path, facts)
            elif kind == "" and (glob.matches(path) or glob.may_hold(path)):
                # A server that tells names only is asked for each size: a folder has none.
                found = self.look(path)
                if found is None and glob.may_hold(path):
                    yield from self._walk(path, glob)
                elif found is not None and glob.matches(path):
                    yield found

    def _entries(self, folder: str) -> Sequence[tuple[str, dict[str, str]]]:
        """What is in a folder; nothing where there is none. Old servers tell names only."""
        ftp, whole = self._ftp(), self._whole(folder)
        try:
            return [*ftp.mlsd(whole, ["type", "size", "modify"])]
        except ftplib.error_perm as error:
            if str(error)[:3] == "550" or str(error)[:3] == "501":
                return []
            if str(error)[:3] not in ("500", "502", "504"):
                raise
        try:
            return [(name.rpartition("/")[2], {}) for name in ftp.nlst(whole)]
        except ftplib.error_perm as error:
            if str(error)[:3] == "550":
                return []
            raise

    def look(self, path: str) -> Found | None:
        """One file: its size and its time, which most servers tell."""
        with self._telling():
            ftp, whole = self._ftp(), self._whole(path)
            ftp.voidcmd("TYPE I")
            facts: dict[str, str] = {}
            try:
                size = ftp.size(whole)
            except ftplib.error_perm:
                return None
            if size is not None:
                facts["size"] = str(size)
            with suppress(ftplib.error_perm):
                facts["modify"] = ftp.sendcmd(f"MDTM {whole}")[4:].strip()
        return _found(path, facts)

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Begin a transfer."""
        with self._telling():
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
        with self._telling():
            self._ftp().voidresp()

    def __str__(self) -> str:
        return f"{self._server}/{self._root.lstrip('/')}".rstrip("/")

    def _whole(self, path: str) -> str:
        whole = f"{self._root}/{path}" if self._root and path else path or self._root or "."
        if "\r" in whole or "\n" in whole:
            raise Refused(f"{path!r} is no name that can be asked for.", where=str(self))
        return whole

    def _ftp(self) -> ftplib.FTP:
        if self._client is None:
            server = self._server
            client: ftplib.FTP
            if server.tls:
                client = ftplib.FTP_TLS(  # noqa: S321
                    context=ssl.create_default_context(cafile=server.ca_file), timeout=_TIMEOUT, encoding="utf-8"
                )
            else:
                client = ftplib.FTP(timeout=_TIMEOUT, encoding="utf-8")  # noqa: S321
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

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors as ours; after one of the connection's, the next question connects anew."""
        try:
            yield
        except (FileNotFoundError, SettingsError, Refused):
            raise
        except ftplib.error_perm as error:
            self.close()
            code = str(error)[:3]
            if code in ("530", "532"):
                raise SettingsError(
                    f'The server refuses the login of "{self._server.login or "anonymous"}".',
                    where=str(self),
                    hint="look at user and password of the connection",
                ) from None
            raise SettingsError(f"The server does not allow it: {str(error)[:200]}.", where=str(self)) from None
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise SettingsError(
                f"The server's certificate is not trusted: {error.verify_message}.",
                where=str(self),
                hint="?ca_file=... in the connection names the certificate of who has signed it",
            ) from None
        except (*_BROKEN, ftplib.Error) as error:
            self.close()
            raise Unreachable(
                f"The server does not answer: {str(error)[:200] or type(error).__name__}.", where=str(self)
            ) from None


_BROKEN = (OSError, EOFError)


class _Body(io.RawIOBase):
    """The data of a transfer."""

    def __init__(self, connection: Any, place: FtpPlace) -> None:
        super().__init__()
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._place = place
        self._over = False

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; at the end the server is asked whether that is the end."""
        if self._over:
            return b""
        with self._place._telling():
            piece: bytes = self._stream.read(1 << 20 if size is None or size < 0 else size)
        if not piece and size:
            self._over = True
            self._let_go()
            self._place.ended()
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


def _found(path: str, facts: dict[str, str]) -> Found:
    modified, told = None, facts.get("modify", "").partition(".")[0]
    with suppress(ValueError):
        modified = datetime.strptime(told, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    size = facts.get("size", "")
    return Found(path, int(size) if size.isdigit() else None, modified)
