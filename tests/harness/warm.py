"""Commands without the second of CPU time that imports take: forked from a server that has imported all.

made = warm.run(["tidemill", "check"], cwd=folder)                 # a subprocess.CompletedProcess, of text
child = warm.started([...], stdin=PIPE, stdout=PIPE, text=True)    # what `subprocess.Popen` gives

The server is started when it is first needed, and ends with this process. A command is the program `tidemill` or this
interpreter with `-m tidemill...`, with `-c CODE` or with a file. Others, and those whose environment sets what an
interpreter reads at its very start, get a real process, as they do where the start itself is what is tested: there
`subprocess` stays. `warmserver.py` tells how a fork is made to be like a new process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

#: Where the server listens; told to processes that run commands themselves, as those of pages do.
ADDRESS = "WARM_COMMANDS"
#: What a message to the server begins with: the length of the rest.
LENGTH = struct.Struct("!I")
#: A command that takes longer than this many seconds hangs.
PATIENCE = 600.0
_PROGRAM = Path(sys.executable).with_name("tidemill")
_TESTS = str(Path(__file__).parent.parent)
_OWN_FOLDER: list[Path] = []


class Child:
    """A forked command that runs. Its methods are those of `subprocess.Popen`."""

    def __init__(
        self, server: socket.socket, words: Sequence[str], stdin: IO[Any] | None, stdout: IO[Any] | None
    ) -> None:
        self._server = server.makefile("rb", buffering=0)  # so that nothing is taken before it is asked for
        self._socket = server
        self.args = list(words)
        self.stdin, self.stdout = stdin, stdout
        self.returncode: int | None = None
        self.pid = self._told()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in (self.stdout, self.stdin):
            if pipe is not None:
                pipe.close()
        self.wait()

    def poll(self) -> int | None:
        """How it has ended, if it has."""
        if self.returncode is None and not select.select([self._socket], [], [], 0)[0]:
            return None
        return self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or a signal's number, negative. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._socket], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._told()
            self._server.close()
            self._socket.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[Any, None]:
        """Give it no more, read what it says to its end, and wait for that."""
        if self.stdin is not None:
            self.stdin.close()
        said = None if self.stdout is None else self.stdout.read()
        self.wait(timeout)
        return said, None

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.send_signal(signal.SIGKILL)

    def _told(self) -> int:
        line = self._server.readline()
        if not line:
            raise RuntimeError(f"the server of commands is gone: {_last_words()}")
        return int(line)


def run(
    words: Sequence[str | Path],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    given: str | None = None,
    joined: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it said.

    Args:
        words: the program and its arguments.
        cwd: the folder to run it in; this process's own by default.
        env: its whole environment; this process's own by default.
        given: what it reads from standard input; nothing by default.
        joined: its standard error goes where its standard output does.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as stdin:
        stdin.write((given or "").encode())
        stdin.seek(0)
        child = started(words, cwd=cwd, env=env, stdin=stdin, stdout=out, stderr=out if joined else err)
        try:
            code = child.wait(PATIENCE)
        finally:
            child.kill()
        return subprocess.CompletedProcess(child.args, code, _text(out), _text(err))


def started(
    words: Sequence[str | Path],
    *,
    stdin: int | IO[Any],
    stdout: int | IO[Any],
    stderr: int | IO[Any] = 2,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    text: bool = False,
) -> Child | subprocess.Popen[Any]:
    """Start a command, in a session of its own; the arguments are those of `subprocess.Popen`."""
    named = [str(word) for word in words]
    environment = dict(os.environ if env is None else env)
    if not (_is_known(named) and _at_start(environment) == _at_start(os.environ)):
        return subprocess.Popen(
            named, cwd=cwd, env=environment, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
            pass_fds=pass_fds, text=text,
        )  # fmt: skip
    ours: list[IO[Any] | None] = [None, None]
    theirs, only_theirs = [], []
    for number, stream in enumerate((stdin, stdout, stderr)):
        if stream == subprocess.PIPE:
            ends = os.pipe()
            ours[number] = os.fdopen(ends[1 - number], ("w" if number == 0 else "r") + ("" if text else "b"))
            only_theirs.append(ends[number])
            theirs.append(ends[number])
        else:
            theirs.append(stream if isinstance(stream, int) else stream.fileno())
    told = {
        "words": named, "cwd": str(Path.cwd() / (cwd or "")), "env": environment, "umask": _umask(),
        "streams": [0, 1, 2, *pass_fds],
    }  # fmt: skip
    message = json.dumps(told).encode()
    server = socket.socket(socket.AF_UNIX)
    server.connect(address())
    socket.send_fds(server, [LENGTH.pack(len(message))], [*theirs, *pass_fds])
    server.sendall(message)
    for end in only_theirs:
        os.close(end)
    return Child(server, named, *ours)


def address() -> str:
    """Where the server listens; it is started if nobody has started one."""
    found = os.environ.get(ADDRESS)
    if found is not None:
        return found
    if not _OWN_FOLDER:
        _OWN_FOLDER.append(_start())
    return str(_OWN_FOLDER[0] / "s")


def _start() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    path = os.pathsep.join([_TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    with socket.socket(socket.AF_UNIX) as listening, (folder / "log").open("w") as log:
        listening.bind(str(folder / "s"))
        listening.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-m", "harness.warmserver", str(listening.fileno()), path],
            stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path},
            pass_fds=[listening.fileno()], start_new_session=True,
        )  # fmt: skip
    atexit.register(_stop, server, folder)
    return folder


def _stop(server: subprocess.Popen[bytes], folder: Path) -> None:
    """The end of its standard input tells the server to end, also where this process is killed."""
    assert server.stdin is not None
    server.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it ends by itself also where nobody waits for it
        server.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


def _last_words() -> str:
    return (_OWN_FOLDER[0] / "log").read_text() if _OWN_FOLDER else "it is another process's"


def _is_known(words: Sequence[str]) -> bool:
    if words[0] != sys.executable:
        return Path(words[0]) == _PROGRAM
    if words[1:2] == ["-m"]:
        return words[2].partition(".")[0] == "tidemill"
    return words[1:2] == ["-c"] or not words[1].startswith("-")


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the interpreter, the C library or an allocator read before any line of Python is run.

    A fork has its own search path, and opens its streams as it is told.
    """
    early = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "_RJEM_", "JE_")
    return {n: v for n, v in environment.items() if n.startswith(early) and n not in ("PYTHONPATH", "PYTHONUNBUFFERED")}


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
