"""What reaches the API's port and is no request of HTTP, or too long to be read as one: answered as all else."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

from harness.webapi import serving
from tidemill.web.protocol import LONGEST
from tidemill.wiring.settings import load_settings

BEGIN = b"GET /api/v1/runs?pipeline="
REST = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_what_is_no_request_is_answered_by_a_problem(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "shop"\n')
    cases = (
        (BEGIN + b"a" * LONGEST + REST, 414, "/problems/address-too-long"),
        (b"what is\r\n\r\n", 400, "/problems/no-request"),
    )
    with serving(load_settings(tmp_path)) as api:
        where = urlsplit(api.url)
        assert where.hostname is not None
        assert where.port is not None
        for sent, status, kind in cases:
            with socket.create_connection((where.hostname, where.port), 120) as asked:
                asked.sendall(sent)
                head, _, body = asked.makefile("rb").read().partition(b"\r\n\r\n")
            found = json.loads(body)
            assert head.startswith(b"HTTP/1.1 %d " % status), head
            assert b"x-content-type-options: nosniff" in head.lower()
            assert b"content-type: application/problem+json" in head.lower()
            assert (found["type"], found["status"]) == (kind, status)
