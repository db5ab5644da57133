"""Queries of people, each in a process of its own (wiring/console.py), which ends when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request

from tidemill.model.errors import LimitError
from tidemill.web.problems import Unwelcome
from tidemill.wiring.console import BEGUN, END, ERROR, FRAME, LENGTH, Question, raised, too_much

if TYPE_CHECKING:
    from tidemill.wiring.console_settings import ConsoleSettings

_COMMAND = (sys.executable, "-P", "-m", "tidemill.wiring.console")
#: Seconds that a process may take to start: a busy computer's affair, and not the query's.
_START = 120.0
#: Arrow's own allocator takes addresses by the gigabyte, which the process may not have.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "4"}


class Asking:
    """The queries of a server. Its methods belong to the server's loop.

    Args:
        limits: what queries may take.
    """

    def __init__(self, limits: ConsoleSettings) -> None:
        self.limits = limits
        #: Processes that run.
        self.running: set[Running] = set()
        self._clearing: set[asyncio.Task[None]] = set()

    async def begin(self, question: Question, seconds: float) -> Running:
        """Start a query that may take so long.

        Raises:
            Unwelcome: as many as may run at once do.
        """
        if len(self.running) >= self.limits.at_once:
            raise Unwelcome(
                503, f"{self.limits.at_once} queries are running.", hint="ask again when one has ended",
                kind="busy", headers={"Retry-After": "5"},
            )  # fmt: skip
        made = Running(self, question, seconds)
        self.running.add(made)
        try:
            await made.start()
        except BaseException:
            made.stop()
            raise
        return made

    def stopped(self, one: Running) -> None:
        """Make room, and clear up behind a process that was stopped, without making anybody wait for it."""
        self.running.discard(one)
        clearing = asyncio.ensure_future(one.clear())
        self._clearing.add(clearing)
        clearing.add_done_callback(self._clearing.discard)


class Running:
    """One query. `stop` it in any case.

    Args:
        asking: whose query it is.
        question: what is asked.
        seconds: that it may take, from when its process has started.
    """

    def __init__(self, asking: Asking, question: Question, seconds: float) -> None:
        self._asking = asking
        self._question = question
        self._seconds = seconds
        #: The loop's time at which it is stopped.
        self._until = asyncio.get_running_loop().time() + _START
        self._folder: str | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._coming: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Start the process, and give it the question."""
        self._folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="tidemill-query-")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=pipe, stdout=pipe, env={**os.environ, **_ENVIRONMENT}, start_new_session=True
        )
        asked = pickle.dumps(replace(self._question, folder=self._folder))
        assert self._process.stdin is not None
        self._process.stdin.write(LENGTH.pack(len(asked)) + asked)

    async def parts(self, request: Request) -> AsyncIterator[bytes]:
        """The answer, as it comes, for as long as the one who asks is there.

        Raises:
            TidemillError: what the query has failed with; LimitError: it took too long, or too much memory.
            ClientDisconnect: nobody waits for it any more.
        """
        leaving = asyncio.ensure_future(_left(request))
        try:
            while True:
                self._coming = coming = asyncio.ensure_future(self._frame())
                await asyncio.wait({leaving, coming}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise ClientDisconnect
                kind, content = coming.result()
                if kind == END:
                    return
                if kind == BEGUN:
                    self._until = asyncio.get_running_loop().time() + self._seconds
                else:
                    yield content
        finally:
            leaving.cancel()
            self.stop()

    async def _frame(self) -> tuple[bytes, bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout_at(self._until):
                kind, size = FRAME.unpack(await self._process.stdout.readexactly(FRAME.size))
                content = await self._process.stdout.readexactly(size)
        except TimeoutError:
            raise LimitError(
                f"The query was stopped: it took more than {self._seconds:g} s.",
                hint="ask for less; or [console] seconds, download_seconds",
            ) from None
        except asyncio.IncompleteReadError:
            code = await self._process.wait()
            if code < 0:  # by a signal: its memory was at its end, or the computer's
                raise too_much(self._question.settings) from None
            raise RuntimeError(f"the process of a query has ended with {code}") from None
        if kind == ERROR:
            error = raised(content)
            raise RuntimeError("a query has met a defect") if error is None else error
        return kind, content

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._stopped:
            return
        self._stopped = True
        if self._coming is not None:
            self._coming.cancel()
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has just ended by itself
                self._process.kill()
        self._asking.stopped(self)

    async def clear(self) -> None:
        """Wait until the process is gone; what it kept on disk goes too."""
        try:
            if self._coming is not None:
                await asyncio.wait({self._coming})
            if self._process is not None:
                assert self._process.stdin is not None
                assert self._process.stdout is not None
                self._process.stdin.close()
                while await self._process.stdout.read(1 << 20):
                    pass  # while something is unread, the pipe stays open, and the process is not gone for the loop
                await self._process.wait()
        finally:
            if self._folder is not None:
                await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def _left(request: Request) -> None:
    """Until whoever asks has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
