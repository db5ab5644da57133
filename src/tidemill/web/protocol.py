"""HTTP as the server speaks it: uvicorn's, with problems (RFC 9457) also for what is no request.

bytes -> httptools -> a request -> the app
                  '-> none: an answer from here, as no app ever sees it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tidemill.web.app import HEADERS
from tidemill.web.problems import Unwelcome, answer

if TYPE_CHECKING:
    from starlette.responses import Response

#: The parser cannot tell parts of a longer address apart.
LONGEST = 65_535
#: More of an address is not kept in memory: the connection ends there.
_MOST = 1 << 20


class HttpProtocol(HttpToolsProtocol):
    """A connection."""

    def on_url(self, url: bytes) -> None:
        """A part of the address has come; an error ends the request."""
        super().on_url(url)
        if len(self.url) > _MOST:
            raise ValueError("the address has no end")

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with it, and end it: what comes after that on it is no beginning of a request."""
        length = len(getattr(self, "url", None) or b"")  # there is none before a first request
        if length > LONGEST:
            what = f"The address has {length:,} characters, and may have {LONGEST:,}."
            error = Unwelcome(414, what, hint="send less in one request", kind="address-too-long")
        else:
            error = Unwelcome(400, "This is no request of HTTP.", kind="no-request")
        self.transport.write(_raw(answer(error)))
        self.transport.close()


def _raw(response: Response) -> bytes:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Connection"] = "close"
    lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
    return b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", response.body])
