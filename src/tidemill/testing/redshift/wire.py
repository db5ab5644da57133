"""PostgreSQL's wire protocol, version 3: frames, and a connection to the PostgreSQL behind the emulator."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tidemill.testing.redshift.faults import Fault

#: How a client begins: the protocol, or a wish for TLS, which the emulator has not.
PROTOCOL, TLS, CANCEL, GSS = 196608, 80877103, 80877102, 80877104


class Closed(Exception):
    """The other side has gone."""


@dataclass
class Stream:
    """Frames on a socket."""

    socket: socket.socket
    _held: bytearray = field(default_factory=bytearray)

    def exactly(self, size: int) -> bytes:
        """So many bytes. Raises Closed."""
        while len(self._held) < size:
            try:
                more = self.socket.recv(1 << 16)
            except OSError:
                raise Closed from None
            if not more:
                raise Closed
            self._held += more
        made = bytes(self._held[:size])
        del self._held[:size]
        return made

    def frame(self) -> tuple[bytes, bytes]:
        """The next frame: its kind and its body."""
        head = self.exactly(5)
        return head[:1], self.exactly(struct.unpack("!I", head[1:])[0] - 4)

    def opening(self) -> tuple[int, bytes]:
        """What a client begins with: a code, and a body."""
        size, code = struct.unpack("!II", self.exactly(8))
        return code, self.exactly(size - 8)

    def send(self, *frames: bytes) -> None:
        """Send frames. Raises Closed."""
        try:
            self.socket.sendall(b"".join(frames))
        except OSError:
            raise Closed from None


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """A frame."""
    return kind + struct.pack("!I", len(body) + 4) + body


def text(value: str) -> bytes:
    """Text as frames carry it."""
    return value.encode() + b"\0"


def cut(body: bytes, at: int = 0) -> tuple[str, int]:
    """Text in a body, and where it ends."""
    end = body.index(b"\0", at)
    return body[at:end].decode(), end + 1


def error_frame(fault: Fault, severity: str = "ERROR") -> bytes:
    """An error, or with another severity a notice."""
    parts = {"S": severity, "C": fault.code, "M": fault.message, "D": fault.detail}
    body = b"".join(kind.encode() + text(value) for kind, value in parts.items() if value)
    return frame(b"E" if severity in ("ERROR", "FATAL") else b"N", body + b"\0")


def fault_of(body: bytes) -> Fault:
    """The error in a frame."""
    parts: dict[str, str] = {}
    at = 0
    while body[at : at + 1] not in (b"\0", b""):
        value, end = cut(body, at + 1)
        parts[chr(body[at])] = value
        at = end
    if parts.get("C") == "53100":
        said = parts.get("M", "")
        return Fault("Disk Full", "53100", f"\n  -----\n  error:  Disk Full\n  code:      1016\n  context:   {said}")
    return Fault(parts.get("M", ""), parts.get("C", "XX000"), parts.get("D", ""))


@dataclass(frozen=True, slots=True)
class Field:
    """A column of an answer: its name, the OID of its type and what modifies it."""

    name: str
    oid: int
    modifier: int


def fields_of(body: bytes) -> list[Field]:
    """The columns that a RowDescription tells."""
    made, at = [], 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        name, at = cut(body, at)
        oid, modifier = struct.unpack_from("!6xI2xi", body, at)
        made.append(Field(name, oid, modifier))
        at += 18
    return made


def values_of(body: bytes) -> list[bytes | None]:
    """The values of a DataRow."""
    made: list[bytes | None] = []
    at = 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        size = struct.unpack_from("!i", body, at)[0]
        made.append(None if size < 0 else body[at + 4 : at + 4 + size])
        at += 4 + max(size, 0)
    return made


def row_of(values: Sequence[bytes | None]) -> bytes:
    """The body of a DataRow."""
    parts = [struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one for one in values]
    return struct.pack("!H", len(values)) + b"".join(parts)


@dataclass
class Answer:
    """What a statement gave: columns, rows of text, and its tag."""

    fields: list[Field] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)
    tag: str = ""


class Backend:
    """A connection to PostgreSQL.

    Args:
        host, port, user, password, database: where, and who.

    Raises:
        Fault: it refuses. Closed: it is not there.
    """

    def __init__(self, host: str, port: int, user: str, password: str, database: str) -> None:
        try:
            made = socket.create_connection((host, port), timeout=60)
        except OSError:
            raise Closed from None
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(made)
        #: `I`: no transaction, `T`: in one, `E`: in one that has failed.
        self.status = "I"
        self.pid = 0
        self._user, self._password = user, password
        body = b"".join(map(text, ("user", user, "database", database, "application_name", "redshift emulator")))
        self.stream.send(struct.pack("!II", len(body) + 9, PROTOCOL) + body + b"\0")
        self._log_in()

    def _log_in(self) -> None:
        while True:
            kind, body = self.stream.frame()
            if kind == b"E":
                raise fault_of(body)
            if kind == b"K":
                self.pid = struct.unpack_from("!I", body)[0]
            if kind == b"Z":
                return
            if kind == b"R":
                self._authenticate(struct.unpack_from("!I", body)[0], body[4:])

    def _authenticate(self, how: int, body: bytes) -> None:
        if how == 3:
            self.stream.send(frame(b"p", text(self._password)))
        elif how == 5:
            inner = hashlib.md5((self._password + self._user).encode(), usedforsecurity=False).hexdigest()
            made = hashlib.md5(inner.encode() + body[:4], usedforsecurity=False).hexdigest()
            self.stream.send(frame(b"p", text("md5" + made)))
        elif how == 10:
            self._scram()
        elif how:
            raise Fault(f"PostgreSQL wants a login that the emulator does not know ({how})", "28000")

    def _scram(self) -> None:
        """SCRAM-SHA-256 (RFC 7677), without channel binding."""
        bare = f"n=,r={secrets.token_urlsafe(18)}"
        first = f"n,,{bare}".encode()
        self.stream.send(frame(b"p", text("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
        kind, body = self.stream.frame()
        if kind == b"E":
            raise fault_of(body)
        server = body[4:].decode()
        given = dict(part.split("=", 1) for part in server.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), base64.b64decode(given["s"]), int(given["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c=biws,r={given['r']}"
        signed = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{server},{without}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signed, strict=True))).decode()
        self.stream.send(frame(b"p", f"{without},p={proof}".encode()))

    def ask(self, sql: str) -> Answer:
        """Run statements, and give the answer of the last. Raises Fault, after which the connection goes on."""
        self.stream.send(frame(b"Q", text(sql)))
        return self._answered()

    def _answered(self) -> Answer:
        made, fault = Answer(), None
        while True:
            kind, body = self.stream.frame()
            if kind == b"T":
                made = Answer(fields_of(body))
            elif kind == b"D":
                made.rows.append([None if one is None else one.decode() for one in values_of(body)])
            elif kind == b"C":
                made.tag = cut(body)[0]
            elif kind == b"E":
                fault = fault_of(body)
            elif kind == b"Z":
                self.status = body.decode()
                if fault is not None:
                    raise fault
                return made

    def copy_in(self, sql: str, pieces: Iterable[bytes]) -> None:
        """COPY FROM STDIN. An error in `pieces` ends it, and is raised when PostgreSQL has given up, too."""
        self.stream.send(frame(b"Q", text(sql)))
        while True:
            kind, body = self.stream.frame()
            if kind == b"G":
                break
            if kind == b"E":
                fault = fault_of(body)
                self._answered()
                raise fault
        error: BaseException | None = None
        try:
            for piece in pieces:
                self.stream.send(frame(b"d", piece))
        except Closed:
            raise
        except BaseException as raised:
            error = raised
        self.stream.send(frame(b"c") if error is None else frame(b"f", text("given up")))
        try:
            self._answered()
        except Fault:
            if error is None:
                raise
        if error is not None:
            raise error

    def close(self) -> None:
        """End the connection."""
        with suppress(Closed):
            self.stream.send(frame(b"X"))
        self.stream.socket.close()
