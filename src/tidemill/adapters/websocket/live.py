"""Port `live`: the messages of a WebSocket, as they come.

It cannot look back: what was received and not committed when a process dies is lost, and so is what is sent while
there is no connection, unless the other side is asked for it by the position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from tidemill.model.errors import SettingsError, Unreachable
from tidemill.model.live import WebSocket
from tidemill.ports.live import Taken

#: Messages that are given at a time.
_MOST = 5_000
#: Seconds that the other side may take to let a connection begin, and to end it.
_PATIENCE = 10.0
_END = 2.0


class WebSocketLive:
    """The port over a WebSocket.

    Args:
        spec: as declared.
        headers: of the request, with what the environment says.
        texts: makes texts of what `subscribe` gives.
    """

    def __init__(self, spec: WebSocket, headers: Mapping[str, str], texts: Callable[[Any], Sequence[str]]) -> None:
        self._spec = spec
        self._headers = headers
        self._texts = texts

    def open(self, position: Any) -> WebSocketReading:
        """Connect, and say what is wanted."""
        spec = self._spec
        wanted = self._texts(spec.subscribe(position)) if callable(spec.subscribe) else spec.subscribe
        try:
            connection = connect(
                spec.url, additional_headers=dict(self._headers), open_timeout=_PATIENCE, close_timeout=_END,
                max_size=spec.largest,
            )  # fmt: skip
        except InvalidURI as error:
            raise SettingsError(f'"{spec.url}" is no address of a WebSocket: {error}.') from None
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
            raise Unreachable(f"{spec} lets nobody in: {_told(error)}.") from None
        try:
            for text in wanted:
                connection.send(text)
        except ConnectionClosed as error:
            raise Unreachable(f"{spec} has ended: {_told(error)}.") from None
        return WebSocketReading(spec, connection, position)


class WebSocketReading:
    """A connection."""

    def __init__(self, spec: WebSocket, connection: ClientConnection, position: Any) -> None:
        self._spec = spec
        self._connection = connection
        self._position = position

    def read(self, timeout: float) -> Taken | None:
        """What has come; an end of the connection is told after all that came before it."""
        found: list[bytes] = []
        try:
            while len(found) < _MOST:
                found.append(self._next(0 if found else timeout))
        except TimeoutError:
            pass
        except ConnectionClosed as error:
            if not found:
                raise Unreachable(f"{self._spec} has ended: {_told(error)}.") from None
        if not found:
            return None
        self._advance(found)
        return Taken(self._position, found)

    def committed(self) -> None:
        """The other side is not told."""

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _next(self, timeout: float) -> bytes:
        message = self._connection.recv(timeout, decode=False)
        assert isinstance(message, bytes)
        return message

    def _advance(self, found: Sequence[bytes]) -> None:
        """The position is that of the last message that says one: heartbeats do not."""
        if self._spec.position is None:
            return
        for message in reversed(found):
            position = self._spec.position(message)
            if position is not None:
                self._position = position
                return


def _told(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
