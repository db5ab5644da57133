"""What the emulator answers where Redshift would refuse: an SQLSTATE and a message."""

from __future__ import annotations


class Fault(Exception):
    """An error that the client gets.

    Args:
        message: what happened.
        code: the SQLSTATE.
        detail: more of it.
    """

    def __init__(self, message: str, code: str = "XX000", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.detail = detail


def wrong(message: str) -> Fault:
    """The statement is no Redshift SQL."""
    return Fault(message, "42601")


def unknown(message: str) -> Fault:
    """Redshift may have it; the emulator has not, and says so."""
    return Fault(f"{message} [not emulated]", "0A000")
