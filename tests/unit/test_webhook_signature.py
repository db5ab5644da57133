"""Signed calls: known by the secret alone, for five minutes, once; over a real server, and by what openssl makes."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.webhook.server import HookServer
from tidemill.adapters.webhook.signature import HEADER, TOLERANCE, check, sign
from tidemill.model.errors import Refused
from tidemill.testing.clock import ManualClock
from tidemill.wiring.access import signatures

SECRET = "a-long-token"
NOW = ManualClock().now()


def seen(
    header: str | None, body: bytes, after: timedelta = timedelta(0), secrets: tuple[str, ...] = (SECRET,)
) -> None:
    check(secrets, header, body, NOW + after, lambda _key, _until: True)


@settings(max_examples=few(200), deadline=None)
@given(
    st.sampled_from(["s", "a longer secret", "ä \ud800"]),
    st.binary(max_size=50),
    st.timedeltas(-TOLERANCE * 2, TOLERANCE * 2),
    st.data(),
)
def test_only_the_same_body_secret_and_time_are_taken(
    secret: str, body: bytes, off: timedelta, data: st.DataObject
) -> None:
    header = sign(secret, body, NOW)
    if abs(off) <= TOLERANCE:
        seen(header, body, off, (secret,))
        seen(header, body, off, ("another", secret))
    else:
        with pytest.raises(Refused, match="off by"):
            seen(header, body, off, (secret,))
    at = data.draw(st.integers(0, len(header) - 1))
    changed = header[:at] + data.draw(st.sampled_from("0123456789abcdef=,tv")) + header[at + 1 :]
    for wrong, text, key in ((header, body + b"x", secret), (header, body, secret + "x"), (changed, body, secret)):
        if (wrong, text) != (header, body) or key != secret:
            with pytest.raises(Refused):
                seen(wrong, text, timedelta(0), (key,))


@pytest.mark.parametrize(
    "header", [None, "", "t=1", f"v1={'a' * 64}", f"t=-1,v1={'a' * 64}", f"t=1,v1={'A' * 64}", "t=1,v1=", "ä=ü",
               "," * 9000, f"t={'9' * 400},v1={'a' * 64}", f"t=999999999999,v1={'a' * 64}"]
)  # fmt: skip
def test_what_is_no_signature_is_refused(header: str | None) -> None:
    for secrets in ((SECRET,), (), ("",)):
        with pytest.raises(Refused):
            seen(header, b"", secrets=secrets)


def test_an_empty_secret_signs_nothing() -> None:
    with pytest.raises(Refused, match="wrong"):
        seen(sign("", b"x", NOW), b"x", secrets=("",))


def test_a_time_that_no_calendar_has_is_refused() -> None:
    import hashlib
    import hmac

    far = hmac.new(SECRET.encode(), b"999999999999.x", hashlib.sha256).hexdigest()
    with pytest.raises(Refused, match="off by"):
        seen(f"t=999999999999,v1={far}", b"x")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_makes_the_same() -> None:
    """What the page on access tells senders to do."""
    seconds = int(NOW.timestamp())
    made = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", SECRET],
        input=f"{seconds}.{{}}".encode(), capture_output=True, check=True,
    )  # fmt: skip
    seen(f"t={seconds},v1={made.stdout.decode().split()[-1]}", b"{}")


class Server:
    """A real one, whose calls do nothing but tell what came."""

    def __init__(self, metadata: SqlMetadata, clock: ManualClock) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.server = HookServer(
            "127.0.0.1", self.port, SECRET, lambda pipeline, key, conf: {"pipeline": pipeline, **conf},
            lambda _pipeline, _source, _key, body, _named: {"bytes": len(body)}, signatures(SECRET, metadata, clock),
        )  # fmt: skip
        self.thread = threading.Thread(target=asyncio.run, args=(self.server.serve(),))
        self.thread.start()

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        return answer.status, said


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metadata(clock: ManualClock) -> Iterator[SqlMetadata]:
    with SqlMetadata.temporary(clock) as store:
        yield store


def started(metadata: SqlMetadata, clock: ManualClock) -> Server:
    made = Server(metadata, clock)
    while not made.server._server.started:
        assert made.thread.is_alive()
        made.thread.join(0.01)
    return made


def test_a_server_takes_signed_calls_once_also_after_a_restart(metadata: SqlMetadata, clock: ManualClock) -> None:
    body = b'{"n": 1}'
    signed = {HEADER: sign(SECRET, body, clock.now())}
    server = started(metadata, clock)
    try:
        assert server.post("/hooks/sales", body) == (401, {"error": "The call is not signed."})
        assert server.post("/hooks/sales", body, Authorization=f"Bearer {SECRET}")[0] == 401, (
            "the token is not for showing"
        )
        assert server.post("/hooks/sales", b'{"n": 2}', **signed) == (401, {"error": "The signature is wrong."})
        assert server.post("/hooks/sales", body, **signed) == (202, {"pipeline": "sales", "n": 1})
        again = (401, {"error": "This signed call has come before."})
        assert server.post("/hooks/sales", body, **signed) == again
        assert server.post("/feeds/sales/events", body, **signed) == again, "nor anywhere else"
    finally:
        server.server.stop()
        server.thread.join()
    server = started(metadata, clock)
    try:
        assert server.post("/hooks/sales", body, **signed)[0] == 401
        clock.advance(TOLERANCE + timedelta(seconds=1))
        assert "off by" in str(server.post("/hooks/sales", body, **signed)[1])
        anew = {HEADER: sign(SECRET, body, clock.now())}
        assert server.post("/feeds/sales/events", body, **anew) == (202, {"bytes": len(body)})
        clock.advance(TOLERANCE * 2)
        assert server.post("/hooks/sales", body, **{HEADER: sign(SECRET, body, clock.now())})[0] == 202
    finally:
        server.server.stop()
        server.thread.join()
    with metadata.read() as tx:
        assert not tx.access.log.page()
