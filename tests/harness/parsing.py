"""Projects whose files are read: once, or by a parser in a process of its own that tells of changes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import warm
from tidemill.flow.parse import Parsed
from tidemill.ports.definitions import PipelineRecord, Unreadable
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings

#: Seconds after which a bell that does not ring is a failure.
PATIENCE = 60

GOOD = 'import tidemill as tm\ngood = tm.Pipeline("good", "@daily")\ngood.files("in/*.csv", name="orders")\n'


class Folder:
    """A project whose files a test writes."""

    def __init__(self, root: Path, settings: str = "") -> None:
        self.root = root
        self.write("tidemill.toml", f'[project]\nname = "test"\n{settings}')
        self.write("pipelines/good.py", GOOD)

    def write(self, path: str, text: str) -> Path:
        """Write a file as editors do: it is there whole, or not at all."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(file.name + ".new")
        new.write_text(textwrap.dedent(text), encoding="utf-8")
        new.rename(file)
        return file

    def pipeline(self, path: str, name: str, **options: Any) -> Path:
        """A file that makes one pipeline."""
        given = "".join(f", {option}={value!r}" for option, value in options.items())
        return self.write(path, f'import tidemill as tm\np = tm.Pipeline("{name}"{given})\np.files("x", name="t")\n')

    def parse(self) -> Parsed:
        """Read everything once."""
        return parse_once(load_settings(self.root))

    def errors(self) -> list[Unreadable]:
        """What could not be read."""
        store = open_metadata(load_settings(self.root), system_clock())
        with store.read() as tx:
            found = tx.definitions.errors()
        store.close()
        return found

    def pipelines(self) -> dict[str, PipelineRecord]:
        """What is known of the pipelines, by name."""
        store = open_metadata(load_settings(self.root), system_clock())
        with store.read() as tx:
            found = {record.name: record for record in tx.definitions.pipelines()}
        store.close()
        return found


class Following:
    """A parser in a process of its own."""

    def __init__(self, process: warm.Child | subprocess.Popen[Any], bell: int) -> None:
        self.process = process
        self._bell = bell
        self._heard = b""

    def bell(self) -> list[str]:
        """The names of its next ring."""
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._bell], [], [], PATIENCE)
            assert ready, "no bell has rung"
            told = os.read(self._bell, 65_536)
            assert told, "the parser has ended"
            self._heard += told
        line, _, self._heard = self._heard.partition(b"\n")
        names: list[str] = json.loads(line)
        return names

    def loaded(self) -> set[str]:
        """Data libraries that the process has in memory."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return {name for name in ("polars", "duckdb", "arrow") if f"/{name}" in maps or f"lib{name}" in maps}


FOLLOW = """
import json, select, sys
from pathlib import Path
from tidemill.wiring.parsing import parse_forever
from tidemill.wiring.settings import load_settings
with open(int(sys.argv[2]), "w") as bell:
    ring = lambda names: print(json.dumps(names), file=bell, flush=True)
    stopping = lambda: bool(select.select([0], [], [], 0)[0])
    sys.exit(parse_forever(load_settings(Path(sys.argv[1])), stopping, 0, changed=ring))
"""


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait for what no bell tells, such as an error that is recorded."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


@contextmanager
def following(folder: Folder, *, new: bool = False) -> Iterator[Following]:
    """Follow a project's changes until the end of the block: then the parser's input is closed, and it ends.

    Args:
        folder: the project.
        new: by an interpreter that imports what it needs by itself.
    """
    bell, theirs = os.pipe()
    command = [sys.executable, "-c", FOLLOW, str(folder.root), str(theirs)]
    start = subprocess.Popen if new else warm.started
    process = start(command, stdin=subprocess.PIPE, stdout=1, pass_fds=[theirs])
    os.close(theirs)
    try:
        yield Following(process, bell)
        assert process.stdin is not None
        process.stdin.close()  # which tells it to stop
        if process.poll() is None:
            assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(bell)
