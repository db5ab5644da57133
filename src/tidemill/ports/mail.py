"""Port `mail`: sends letters that tasks write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Letter:
    """A message.

    Args:
        to, cc, bcc: addresses; those of `bcc` stand in no header.
        subject: one line.
        text: as plain text. `html`: as HTML, beside it or alone.
        sender: From; empty: that of the connection.
        files: names and contents.
    """

    to: tuple[str, ...]
    subject: str
    text: str = ""
    html: str = ""
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    sender: str = ""
    files: tuple[tuple[str, bytes], ...] = ()


class Mail(Protocol):
    """Sends letters through one server.

    Promises: `send` returns when the server has taken the letter, for everybody it is for.

    Raises:
        Unreachable: try again later. Refused: the server does not take it, ever, from us or for one of its readers.
    """

    def send(self, letter: Letter) -> None:
        """Send a letter."""
        ...
