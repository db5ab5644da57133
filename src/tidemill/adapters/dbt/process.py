"""A warm process that has dbt, seen from ours: started at the first request, again after its end."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidemill.model.errors import RunFailed, Unreachable

_PROGRAM = Path(__file__).with_name("program.py")
#: A process that is asked to end gets so long, seconds.
_GRACE = 2.0


class Refused(Exception):
    """dbt's answer is an error: its text."""


class WarmProcess:
    """Runs `program.py` for one project.

    Args:
        python: the interpreter that has dbt.
        folder: in which it runs: paths in profiles are relative to where dbt was begun.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self._python = python
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def ask(
        self,
        request: Mapping[str, Any],
        tell: Callable[[str, str], None] = lambda _level, _text: None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for its answer; what dbt says in between is told.

        Raises:
            Refused: dbt could not do it. RunFailed: the process has ended. Unreachable: there is no dbt.
        """
        self._stopped = False
        for again in (True, False):
            process = self._started()
            late = threading.Timer(timeout, process.kill) if timeout is not None else None
            try:
                if late is not None:
                    late.start()
                found = self._answer(process, json.dumps(request), tell)
            except BaseException:  # stopped, or its time is over: what dbt does now is for nobody
                self.kill()
                raise
            finally:
                if late is not None:
                    late.cancel()
            if found is not None:
                return found
            code = process.wait()
            self.kill()
            if not again or self._stopped:
                break
        how = "it was stopped" if self._stopped else f"exit code {code}"
        raise RunFailed(f"The process that runs dbt has ended ({how}).")

    def _answer(
        self, process: subprocess.Popen[str], text: str, tell: Callable[[str, str], None]
    ) -> dict[str, Any] | None:
        """The answer; None where the process had ended before it heard of the request."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(text + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        begun = False
        for line in process.stdout:
            answer: dict[str, Any] = json.loads(line)
            begun = True
            if "event" in answer:
                tell(answer["event"], answer["text"])
            elif "missing" in answer:
                raise Unreachable(
                    f'"{self._python}" has no dbt for this project: {answer["failed"]}.',
                    hint='packages=["dbt-core<1.12", ...] installs what is needed',
                )
            elif "failed" in answer:
                raise Refused(answer["failed"])
            elif "done" in answer:
                return dict(answer["done"])
        if not begun and not self._stopped:
            return None
        code = process.wait()
        how = "it was stopped" if self._stopped else f"exit code {code}"
        raise RunFailed(f"The process that runs dbt has ended ({how}).", hint="it is started anew at the next try")

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.kill()
            # `-I`: nothing of the environment that Tidemill runs in. It ends when its standard input does, and so with
            # this process, however that ends.
            self._process = subprocess.Popen(
                [str(self._python), "-I", "-W", "ignore:resource_tracker", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self._folder,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        return self._process

    @property
    def pid(self) -> int | None:
        """Of the process; None: there is none now."""
        return self._process.pid if self._process is not None else None

    def stop(self) -> None:
        """End it at once; whoever waits for an answer gets an error."""
        self._stopped = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def close(self) -> None:
        """Let it end by itself, if it does so soon."""
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        self.kill()

    def kill(self) -> None:
        """End it, and let go of it."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(_GRACE)
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
