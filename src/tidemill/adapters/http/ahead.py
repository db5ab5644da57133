"""What goes on in a thread of its own while its caller does something else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def begun(call: Callable[[], T], name: str) -> Future[T]:
    """Begin a call; whoever asks for its result gets what it raised, too.

    Nobody waits for one that is given up: a request may take its time-out, and what passes is asked for minutes. So the
    thread is a daemon, which those of an executor are not.
    """
    made: Future[T] = Future()

    def run() -> None:
        try:
            made.set_result(call())
        except BaseException as error:
            made.set_exception(error)

    Thread(target=run, name=f"tidemill-{name}", daemon=True).start()
    return made
