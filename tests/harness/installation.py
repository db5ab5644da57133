"""A project that runs by itself: `tidemill up` as a user starts it, in a folder of its own, and what it has done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from harness import warm
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.run import RUN_ENDS, RunState, TaskRun
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.serving import ring
from tidemill.wiring.settings import Settings, load_settings

T = TypeVar("T")
COMMAND = [sys.executable, "-m", "tidemill.cli"]


class Installation:
    """A project in `folder`; `url` is its metadata database, SQLite without one."""

    def __init__(self, folder: Path, url: str | None = None, **files: str) -> None:
        self.folder = folder
        (folder / "pipelines").mkdir(parents=True)
        database = f'\n[metadata]\nurl = "{url}"\n' if url else ""
        # Without the web server: what a test does not ask for costs it nothing.
        (folder / "tidemill.toml").write_text(f'[project]\nname = "shop"\n[web]\nenabled = false\n{database}')
        for name, text in files.items():
            self.write(name, text)
        self.root: warm.Child | subprocess.Popen[Any] | None = None
        self._metadata: SqlMetadata | None = None

    def write(self, name: str, text: str) -> None:
        """A pipeline file; whole at once, as editors do it."""
        made = self.folder / f".{name}.new"
        made.write_text(textwrap.dedent(text))
        made.rename(self.folder / "pipelines" / f"{name}.py")

    # -- processes

    def up(self, *arguments: str, new: bool = False) -> None:
        """Start it; what it says goes to `up.log`."""
        self.root = self.start("up", *arguments, new=new)

    def start(self, *arguments: str, new: bool = False, **variables: str) -> warm.Child | subprocess.Popen[Any]:
        """Start a command that goes on, with some variables more; whoever asked ends it.

        `new`: through an interpreter that imports what it needs by itself.
        """
        begin = subprocess.Popen if new else warm.started
        with (self.folder / "up.log").open("a") as log, Path(os.devnull).open() as nothing:
            return begin(
                [*COMMAND, "--project", str(self.folder), *arguments], cwd=self.folder,
                stdin=nothing, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
            )  # fmt: skip

    def stop(self, number: int = signal.SIGINT, timeout: float = 40) -> int:
        """Ask it to end, and wait; returns its exit code."""
        assert self.root is not None
        self.root.send_signal(number)
        code = self.root.wait(timeout)
        self.root = None
        return code

    def children(self) -> dict[int, str]:
        """Processes below the root, and what they are: `scheduler`, `parser`, `worker`."""
        assert self.root is not None
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == self.root.pid and fields[0] != "Z":
                found[int(stat.parent.name)] = ""
        return found

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.root is not None:
            self.root.send_signal(signal.SIGTERM)
            try:
                self.root.wait(40)
            except subprocess.TimeoutExpired:
                self.root.kill()
                self.root.wait()
        if self._metadata is not None:
            self._metadata.close()

    def command(self, *arguments: str) -> str:
        """What a command says on standard output; an error fails the test."""
        done = warm.run([*COMMAND, "--project", str(self.folder), *arguments], cwd=self.folder)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    # -- what it has done

    @property
    def settings(self) -> Settings:
        return load_settings(self.folder)

    @property
    def metadata(self) -> SqlMetadata:
        if self._metadata is None:
            made = open_metadata(self.settings, system_clock())
            assert isinstance(made, SqlMetadata)
            self._metadata = made
        return self._metadata

    def ring(self) -> None:
        ring(self.settings)

    def runs(self, pipeline: str | None = None) -> dict[int, RunState]:
        """States of runs by id."""
        with self.metadata.read() as tx:
            return {run.id: run.state for run in tx.runs.recent(pipeline=pipeline)}

    def tasks(self, run_id: int) -> list[TaskRun]:
        with self.metadata.read() as tx:
            return tx.runs.tasks(run_id)

    def published(self, pipeline: str) -> list[int]:
        """Ids of published batches."""
        with self.metadata.read() as tx:
            return sorted(b.id for b in tx.batches.recent(pipeline) if b.published_at is not None)

    def said(self) -> str:
        log = self.folder / "up.log"
        return log.read_text() if log.exists() else ""

    def wait(self, what: Callable[[], T], timeout: float = 150) -> T:
        """What `what` gives, once it is true; fails when that takes too long."""
        until = time.monotonic() + timeout
        while True:
            found = what()
            if found:
                return found
            if time.monotonic() > until:
                raise AssertionError(f"it did not come to that within {timeout} s; runs {self.runs()}\n{self.said()}")
            time.sleep(0.02)  # between two looks, not to pass

    def wait_for_runs(self, pipeline: str, count: int, timeout: float = 150) -> dict[int, RunState]:
        """Wait until so many runs of a pipeline have ended."""

        def ended() -> dict[int, RunState] | None:
            found = {run: state for run, state in self.runs(pipeline).items() if state in RUN_ENDS}
            return found if len(found) >= count else None

        found = self.wait(ended, timeout)
        assert found is not None
        return found

    def wait_for_task(self, run_id: int, task: str, state: str, timeout: float = 30) -> TaskRun:
        def there() -> Any:
            return next((one for one in self.tasks(run_id) if one.task == task and one.state == state), None)

        found: TaskRun = self.wait(there, timeout)
        return found
