"""The process `web`: pages and API behind uvicorn, on one address, until it is asked to end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from tidemill.model.errors import SettingsError, TidemillError
from tidemill.web.app import LOOPBACK, Identify, make_app
from tidemill.web.backend import Backend
from tidemill.web.door import Door
from tidemill.web.protocol import HttpProtocol
from tidemill.wiring.access import open_access
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.serving import asked_to_stop, log_to_stderr
from tidemill.wiring.settings import FILE, Settings
from tidemill.wiring.web_settings import PORT, WebSettings

_log = logging.getLogger("tidemill")

NAME = "web"
#: Seconds that answers may take when the process is asked to end.
_PATIENCE = 5


class _Server(uvicorn.Server):
    """One that leaves signals to its process, which has handlers of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change no handler."""
        yield


def web_main(settings: Settings) -> int:
    """The process; returns its exit code."""
    log_to_stderr(NAME)
    with asked_to_stop() as (stopping, handle):
        try:
            return serve(settings, stopping, handle, told=_log.info)
        except TidemillError as error:  # an address that is taken may be free the next time
            _log.error("%s", error)
            return error.exit_code


def serve(settings: Settings, stopping: Callable[[], bool], handle: int | None, *, told: Callable[[str], None]) -> int:
    """Serve until `stopping`; `handle` is readable when that has changed. `told` hears the address.

    Raises:
        SettingsError: the address is taken, or open to others without a login.
    """
    see_safe(settings)
    listening = listen(settings.web, str(settings.root / FILE))
    try:
        backend = Backend(settings)
        try:
            told(f"Pages at {address_of(listening)}/, API at {address_of(listening)}/api/v1/")
            run(backend, listening, stopping, handle)
        finally:
            backend.close()
    finally:
        listening.close()
    return 0


def run(
    backend: Backend,
    listening: socket.socket,
    stopping: Callable[[], bool],
    handle: int | None,
    identify: Identify | None = None,
) -> None:
    """Answer on a socket until `stopping`, in a loop of its own; `identify` is asked instead of users and tokens."""
    settings, hosts = backend.settings, names_of(backend.settings)
    if identify is not None:
        app = make_app(backend, identify=identify, hosts=hosts)
    else:
        door = Door(open_access(settings, backend.metadata, backend.clock), settings.web)
        app = make_app(backend, door=door, hosts=hosts)
    backend.lag_history.start()
    asyncio.run(_serve(app, listening, stopping, handle))


async def _serve(app: Starlette, listening: socket.socket, stopping: Callable[[], bool], handle: int | None) -> None:
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", lifespan="off", access_log=False, server_header=False,
        # Who asks is judged by the connection; a header about it is anybody's to write.
        proxy_headers=False, ws="none", http=HttpProtocol, timeout_graceful_shutdown=_PATIENCE,
    )  # fmt: skip
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def end() -> None:
        if stopping():
            app.state.hub.close()
            server.should_exit = True
            if handle is not None:
                loop.remove_reader(handle)

    if handle is not None:
        loop.add_reader(handle, end)
    end()
    try:
        await server.serve(sockets=[listening])
    finally:
        app.state.kept.close()


def see_safe(settings: Settings) -> None:
    """Raise SettingsError where anybody could do everything, or nobody anything: logins are needed, without users."""
    metadata = open_metadata(settings, system_clock())
    try:
        access = open_access(settings, metadata)
        if access.login_needed(settings.web.host) and not access.people.users():
            raise SettingsError(
                f"Pages and API at {settings.web.host} need logins, and there are no users.",
                where=str(settings.root / FILE),
                hint="tidemill serve users add NAME --role admin",
            )
    finally:
        metadata.close()


def names_of(settings: Settings) -> tuple[str, ...] | None:
    """Names by which browsers may ask for it; None: any, where it is not for this computer alone."""
    if not settings.web.is_local or settings.access.login == "always":
        return None
    own = f"[{settings.web.host}]" if ":" in settings.web.host else settings.web.host
    public = [settings.web.public_host] if settings.web.public_host is not None else []
    return tuple(dict.fromkeys((*LOOPBACK, own, *public)))


def listen(web: WebSettings, where: str) -> socket.socket:
    """A socket that listens: at the port of the settings; else at 8080, or at a free one where that is taken.

    Raises:
        SettingsError: it is taken, or the address is none of this computer's.
    """
    ports = (PORT, 0) if web.port is None else (web.port,)
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    why = OSError()
    for port in ports:
        # With the protocol said: else asyncio leaves its connections to wait for full packets, 40 ms an answer.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((web.host, port))
            made.listen(2048)
        except OSError as error:
            made.close()
            why = error
            continue
        made.setblocking(False)
        return made
    raise SettingsError(
        f"The API cannot be served at {web.host}:{ports[0]}: {why.strerror or why}.", where=where, hint="[web] port = 0"
    )


def address_of(listening: socket.socket) -> str:
    """Its URL."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
