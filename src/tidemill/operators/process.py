"""Programs that tasks run on this computer: each in a process group of its own, its output line by line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

#: A process that was asked to end gets so long, seconds, before it is killed.
GRACE = 5.0


class Program:
    """One program of a task. `end` may be called from a handler of a signal, also before it has begun."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], line: Callable[[str], None]
    ) -> int:
        """Run it to its end; returns its exit code, negative for a signal.

        Args:
            command: the program and its arguments.
            folder: where it runs.
            environment: all of it.
            line: is told each line of what it writes.

        Raises:
            OSError: there is no such program.
        """
        self._process = process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            if self._stopped:  # asked while the process was being made, when nothing could be ended yet
                self.end()
            for text in process.stdout:
                line(text.rstrip("\r\n"))
            return process.wait()
        except BaseException:  # stopped, or its time is over: nothing of it stays behind
            self.end()
            raise
        finally:
            process.stdout.close()

    def end(self) -> None:
        """End the whole process group, first politely."""
        self._stopped = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        _signal(process.pid, signal.SIGKILL)
        process.wait()


def told_environment(base: Mapping[str, str], ti: object) -> dict[str, str]:
    """An environment with what tells a program about its run."""
    told = {"dag": "dag_id", "task": "task_id", "run": "run_id", "try": "try_number"}
    return {**base, **{f"TIDEMILL_{name.upper()}": str(getattr(ti, attribute)) for name, attribute in told.items()}}


def code_text(code: int) -> str:
    """An exit code for people."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return
