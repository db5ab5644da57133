"""Port `http`: requests of tasks to web services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tidemill.model.errors import DataError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered.

    Args:
        status: its code; `reason` in words.
        content: the body. `text` decodes it, `json()` reads it.
        headers: by names in lower case.
        url: where it came from in the end.
    """

    status: int
    reason: str = ""
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    #: The names that Airflow's response checks use.
    @property
    def status_code(self) -> int:
        """`status`."""
        return self.status

    @property
    def ok(self) -> bool:
        """Whether the code tells of no error."""
        return self.status < 400

    @property
    def text(self) -> str:
        """The body as text, by the character set that it names."""
        kind = self.headers.get("content-type", "")
        charset = kind.partition("charset=")[2].split(";")[0].strip(" \"'") or "utf-8"
        try:
            return self.content.decode(charset, errors="replace")
        except LookupError:
            return self.content.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body read as JSON. Raises DataError."""
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise DataError(f"The answer is no JSON: {error}.", hint=f"it begins with {self.text[:60]!r}") from None


class HttpClient(Protocol):
    """Asks one service, with what the connection tells: its address, who asks, headers.

    Promises: the connection's password and headers go to its own host only, whatever the service redirects to.
    """

    def request(
        self,
        method: str,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, Any],
        body: bytes | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        """Ask; every code is an answer.

        Args:
            method: GET, POST ...
            endpoint: a path at the connection's host, or without a connection the whole address.
            headers: of this request.
            query: added to the address.
            body: what is sent.
            timeout: seconds without a byte.

        Raises:
            Unreachable: there was no answer. SettingsError: this is no address. LimitError: the answer is too large.
        """
        ...
