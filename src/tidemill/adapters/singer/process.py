"""A tap at work: a process group of its own, both of whose outputs are read, with an eye on silence."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tidemill.model.errors import LimitError, RunFailed, SettingsError

#: A tap that was asked to end gets so long, seconds, before it is killed.
GRACE = 5.0
_READ = 1 << 20
#: How often it is looked whether a tap whose output is at its end has ended, seconds.
_LOOK = 0.05
#: Linux only; elsewhere pipes stay as they are.
_SET_PIPE_SIZE = 1031
#: Lines of its log that an error shows.
_LAST = 12
_LONGEST_SAID = 2000


class TapProcess:
    """One run of a tap. Use as a context: nothing of it is left behind.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environment: all of it.
        quiet_after: seconds without a byte on either output, after which it is ended.
        largest: bytes of a line.
        said: is told each line of its log.
        name: what errors call it.
        place: where in the user's file.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], *, quiet_after: float, largest: int,
        said: Callable[[str], str], name: str, place: str,
    ) -> None:  # fmt: skip
        self._command = list(command)
        self._folder = folder
        self._environment = dict(environment)
        self._quiet_after = quiet_after
        self._largest = largest
        self._said = said
        self._name = name
        self._place = place
        self._last: deque[str] = deque(maxlen=_LAST)
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> TapProcess:
        try:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise SettingsError(
                f'The tap "{self._name}" cannot be started: {error.strerror or error}.', where=self._place,
                hint=f"executable= names the program of its package; it was {Path(self._command[0]).name}",
            ) from None  # fmt: skip
        return self

    def __exit__(self, *exit_: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            if process.poll() is None:
                self._signal(signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()

    def blocks(self) -> Iterator[bytes]:
        """What it writes, in blocks of whole lines, until it has ended well.

        Raises:
            RunFailed: it failed, or was quiet for too long.
            LimitError: a line is longer than any should be.
        """
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout, _SET_PIPE_SIZE, _READ)
        pieces: list[bytes] = []
        held = 0
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            waiting.register(process.stderr, selectors.EVENT_READ)
            while process.stdout in {key.fileobj for key in waiting.get_map().values()}:
                ready = waiting.select(self._quiet_after)
                if not ready:
                    raise self._quiet()
                for key, _ in ready:
                    data = os.read(key.fd, _READ)
                    if not data:
                        waiting.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        self._hear(data)
                    else:
                        end = data.rfind(b"\n") + 1
                        if end:
                            pieces.append(data[:end])
                            yield b"".join(pieces)
                            pieces, held = [data[end:]], len(data) - end
                        else:
                            pieces.append(data)
                            held += len(data)
                        if held > self._largest:
                            raise LimitError(
                                f'The tap "{self._name}" has written a line of more than {self._largest:,} bytes.',
                                where=self._place, hint="largest=",
                            )  # fmt: skip
        if held:
            yield b"".join(pieces)
        self._finish(process)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for its end, hearing what it still says. Raises RunFailed."""
        assert process.stderr is not None
        waited = 0.0
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stderr, selectors.EVENT_READ)
            while True:
                # A process that the tap has started may keep its log open after it has ended.
                ended = process.poll() is not None
                ready = waiting.select(0 if ended else _LOOK)
                data = os.read(process.stderr.fileno(), _READ) if ready else b""
                if data:
                    self._hear(data)
                    waited = 0.0
                elif ended or ready:
                    break
                elif (waited := waited + _LOOK) > self._quiet_after:
                    raise self._quiet()
        try:
            code = process.wait(self._quiet_after)
        except subprocess.TimeoutExpired:
            raise self._quiet() from None
        if self._rest:
            self._hear(b"\n")
        if code:
            end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise self._failed(f"ended with {end}")

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _READ:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            text = self._said(line.decode("utf-8", "replace").rstrip("\r"))
            if text.strip():
                self._last.append(text[:_LONGEST_SAID])

    def _quiet(self) -> RunFailed:
        return self._failed(
            f"has said nothing for {self._quiet_after:g} s and was ended", hint="quiet_after= allows more"
        )

    def _failed(self, what: str, hint: str | None = None) -> RunFailed:
        said = "".join(f"\n    {line}" for line in self._last)
        return RunFailed(
            f'The tap "{self._name}" {what}.{" It said last:" + said if said else ""}',
            where=self._place,
            hint=hint or "nothing of this try is kept; the next one begins where the last batch ended",
        )

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
