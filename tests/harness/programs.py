"""Servers of brokers for tests: Debian's programs, started on free loopback ports in a folder that is thrown away."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

START_WAIT = 60


class CannotStart(Exception):
    """Why there is no server."""


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(eq=False)
class Program:
    """A server that can be killed and started again; it keeps its port and its folder.

    Args:
        name: what it is called in messages.
        command: how it is started.
        log: where its output goes.
        environment: further variables.
        answers: whether it can be used; raises while it cannot.
    """

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str]
    answers: Callable[[], object]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers. Raises CannotStart."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        until = time.monotonic() + START_WAIT
        while True:
            try:
                self.answers()
            except Exception as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    self.kill()
                    raise CannotStart(f"{self.name} does not answer: {error}\n{tail}") from error
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        """End it and what it has started, as a power cut would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
