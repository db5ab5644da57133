"""Port `live` over a user's object: its `read` runs in a thread of its own, and may wait there as long as it likes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tidemill.model.errors import DataError
from tidemill.model.live import CustomSource, Message
from tidemill.ports.clock import Clock
from tidemill.ports.live import Taken

#: Pieces that may wait for their commit.
_AHEAD = 4
#: Seconds for which a user's `read` is waited for at the end.
_PATIENCE = 5.0
#: Seconds between two looks whether it shall end.
_LOOK = 0.2

#: Writes rows as messages of the topic.
WriteRows: TypeAlias = "Callable[[Sequence[Mapping[str, Any]]], Sequence[bytes | None]]"


@dataclass(frozen=True, slots=True)
class _Failed:
    """In place of a piece: what `read` raised."""

    error: Exception


class CustomLive:
    """The port over a user's object.

    Args:
        spec: as declared.
        write_rows: makes messages of rows.
        clock: the time.
    """

    def __init__(self, spec: CustomSource, write_rows: WriteRows, clock: Clock) -> None:
        self._spec = spec
        self._write_rows = write_rows
        self._clock = clock

    def open(self, position: Any) -> CustomReading:
        """Begin to read."""
        return CustomReading(self._spec, position, self._write_rows, self._clock)


class CustomReading:
    """A user's object that is being read."""

    def __init__(self, spec: CustomSource, position: Any, write_rows: WriteRows, clock: Clock) -> None:
        self._spec = spec
        self._write_rows = write_rows
        self._clock = clock
        self._pieces: queue.Queue[Taken | _Failed] = queue.Queue(_AHEAD)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(position,), name=f"read-{spec.name}", daemon=True)
        self._thread.start()

    def read(self, timeout: float) -> Taken | None:
        """What the object has yielded next."""
        try:
            found = self._pieces.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, _Failed):
            raise found.error
        return found

    def committed(self) -> None:
        """The object is told by the position of its next `read`."""

    def close(self) -> None:
        """End it: after what it yields next, or by its own `close`. One that does neither is left to itself."""
        self._ending.set()
        close = getattr(self._spec.source, "close", None)
        if callable(close):
            close()
        self._thread.join(_PATIENCE)

    def _run(self, position: Any) -> None:
        try:
            while not self._ending.is_set():
                for piece in self._spec.source.read(position):
                    taken = self._taken(piece)
                    position = taken.position
                    if not self._hand_over(taken):
                        return
                self._ending.wait(self._spec.every.total_seconds())
        except Exception as error:
            self._hand_over(_Failed(error))

    def _hand_over(self, piece: Taken | _Failed) -> bool:
        while not self._ending.is_set():
            try:
                self._pieces.put(piece, timeout=_LOOK)
            except queue.Full:
                continue
            return True
        return False

    def _taken(self, piece: Any) -> Taken:
        if not isinstance(piece, tuple) or len(piece) != 2:
            raise DataError(
                f'Source "{self._spec.name}" yielded {type(piece).__name__} in place of messages and a position.',
                hint="yield [{'id': 1}], position",
            )
        given, position = piece
        messages = [self._message(one) for one in (given if _is_several(given) else [given])]
        some_at = any(one.at is not None for one in messages)
        now = int(self._clock.now().timestamp() * 1000) if some_at else 0
        return Taken(
            position,
            self._values(messages),
            keys=[one.key.encode() if isinstance(one.key, str) else one.key for one in messages],
            timestamps=[now if one.at is None else one.at for one in messages] if some_at else None,
            headers=[list(one.headers.items()) for one in messages] if any(one.headers for one in messages) else None,
        )

    def _values(self, messages: Sequence[Message]) -> list[bytes | None]:
        rows = iter(self._write_rows([one.value for one in messages if isinstance(one.value, Mapping)]))
        values: list[bytes | None] = []
        for one in messages:
            if isinstance(one.value, Mapping):
                values.append(next(rows))
            else:
                values.append(one.value.encode() if isinstance(one.value, str) else one.value)
        return values

    def _message(self, one: Any) -> Message:
        if isinstance(one, Message):
            return one
        if isinstance(one, bytes | str | Mapping):
            return Message(one)
        raise DataError(
            f'Source "{self._spec.name}" yielded a {type(one).__name__}, which is no message.',
            hint="rows (dicts), bytes, text, or live.Message(...)",
        )


def _is_several(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, bytes | str)
