"""What commands ask: the installation of a project here, or one elsewhere by its server.

Who asks a server is told by TIDEMILL_TOKEN, or by a file that only its owner may read, `servers.toml` in
~/.config/tidemill (XDG_CONFIG_HOME; TIDEMILL_SERVERS names another one):

[production]                             tidemill --server production runs ls
url = "https://pipelines.example"
token = "tm_..."
ca_file = "/etc/ssl/own-authority.pem"   TIDEMILL_SERVER_CA; who has signed its certificate, beside the usual ones
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidemill.flow.installation import OwnInstallation, own_installation
from tidemill.model.errors import SettingsError, UnknownName
from tidemill.model.masking import GIVEN
from tidemill.plan.access import is_loopback
from tidemill.ports.clock import Clock
from tidemill.ports.installation import Installation
from tidemill.ports.metadata import Metadata
from tidemill.ports.tasklogs import TaskLogs
from tidemill.wiring.services import late, system_clock
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.adapters.server.lake import ServerLake
    from tidemill.flow.services import Services
    from tidemill.ports.asked import AskedLake, AskedStreams
    from tidemill.wiring.stream_care import StreamCare

_KEYS = ("url", "token", "ca_file")


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where a server is, and who asks.

    Args:
        url: scheme, host and port.
        token: of a user; empty: none is shown.
        ca_file: certificates that are trusted beside the usual ones; empty: none.
    """

    url: str
    token: str = ""
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"ServerPlace({self.url!r})"

    @property
    def name(self) -> str:
        """What messages call it."""
        return urlsplit(self.url).netloc


def here(
    settings: Settings, metadata: Metadata, services: Callable[[], Services], streams: Callable[[], StreamCare]
) -> OwnInstallation:
    """The installation of a project, by its metadata store; what few commands need is loaded for these only.

    Args:
        settings: the project.
        metadata: its database.
        services: opens its tables and engines.
        streams: opens its streams.
    """

    def wake() -> None:
        from tidemill.wiring.serving import ring

        ring(settings)

    def logs() -> TaskLogs:
        from tidemill.wiring.performing import open_logs

        return open_logs(settings)

    @cache
    def read_files() -> None:  # once a command
        from tidemill.wiring.parsing import parse_once, parser_runs

        if not parser_runs(settings) and parse_once(settings).changed:
            wake()

    return own_installation(
        metadata, system_clock(), logs, wake, read_files, late(lambda: _own_lake(metadata, services)),
        late(lambda: _own_streams(streams)),
    )  # fmt: skip


def _own_lake(metadata: Metadata, services: Callable[[], Services]) -> AskedLake:
    from tidemill.flow.asked import OwnLake
    from tidemill.wiring.failing import kept_rows

    return OwnLake(metadata, services, kept_rows)


def _own_streams(care: Callable[[], StreamCare]) -> AskedStreams:
    from tidemill.wiring.asked_streams import OwnStreams

    return OwnStreams(care)


def elsewhere(
    given: str, env: Mapping[str, str], version: str, note: Callable[[str], None], clock: Clock | None = None
) -> Installation:
    """The installation behind a server.

    Args:
        given: its address, or its name in the file of servers.
        env: the environment.
        version: of this side; another one there is told by `note`.
        note: is told what a person should know.
        clock: the time here.

    Raises:
        SettingsError: the address is none, a token would be readable on its way, or its file is open to others.
        UnknownName: the file has no such server.
    """
    from tidemill.adapters.http.client import UrllibClient
    from tidemill.adapters.server.installation import ServerInstallation

    place = find_server(given, env)
    extra = {"Authorization": f"Bearer {place.token}"} if place.token else {}
    if place.ca_file:
        extra["ca_file"] = place.ca_file
    client = UrllibClient(place.url, extra=extra, follows=False)
    return ServerInstallation(client, place.name, clock or system_clock(), version, note)


def lake_of(installation: Installation) -> ServerLake:
    """What a server, and no project here, does with SQL: it gives rows by pages and files."""
    from tidemill.adapters.server.lake import ServerLake

    assert isinstance(installation.lake, ServerLake)
    return installation.lake


def find_server(given: str, env: Mapping[str, str]) -> ServerPlace:
    """A server by its address, or its name in the file of servers; see the module's text. Raises as `elsewhere`."""
    file = servers_file(env)
    known = _read(file)
    if "://" in given:
        url = _address(given, "--server")
        found = next((one for one in known.values() if one.url == url), ServerPlace(url))
    elif given in known:
        found = known[given]
    else:
        error = UnknownName.of("server", given, known, where=str(file) if known else None)
        error.hint = error.hint if known else f"https://host, or a name in {file}"
        raise error
    token = env.get("TIDEMILL_TOKEN", "").strip() or found.token
    if token and urlsplit(found.url).scheme == "http" and not is_loopback(urlsplit(found.url).hostname or ""):
        what = f"{found.name} is not asked by TLS: whoever is on the way could read the token."
        raise SettingsError(what, hint="https://, or a tunnel: ssh -L 8080:127.0.0.1:8080 HOST")
    if any(char.isspace() or not char.isprintable() for char in token):
        raise SettingsError("The token is none: it has a blank in it.", hint="TIDEMILL_TOKEN=tm_...")
    if token:
        GIVEN.add(token)
    return ServerPlace(found.url, token, env.get("TIDEMILL_SERVER_CA") or found.ca_file)


def servers_file(env: Mapping[str, str]) -> Path:
    """The file of servers."""
    if given := env.get("TIDEMILL_SERVERS"):
        return Path(given)
    return Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tidemill" / "servers.toml"


def _read(file: Path) -> dict[str, ServerPlace]:
    try:
        with file.open("rb") as opened:
            about = os.fstat(opened.fileno())
            if stat.S_IMODE(about.st_mode) & 0o077 or about.st_uid not in (os.getuid(), 0):
                raise SettingsError("Others can read the tokens of servers.", where=str(file), hint=f"chmod 600 {file}")
            data = tomllib.load(opened)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file of servers cannot be read: {error}.", where=str(file)) from None
    except OSError as error:
        raise SettingsError(f"The file of servers cannot be read: {error.strerror}.", where=str(file)) from None
    return {name: _place(name, values, f"{file} [{name}]") for name, values in data.items()}


def _place(name: str, values: Any, where: str) -> ServerPlace:
    if not isinstance(values, dict) or not all(isinstance(one, str) for one in values.values()):
        raise SettingsError(f'"{name}" is no server.', where=where, hint='url = "https://host"')
    for key in values:
        if key not in _KEYS:
            raise UnknownName.of("setting of a server", key, _KEYS, where=where)
    return ServerPlace(_address(values.get("url", ""), where), values.get("token", ""), values.get("ca_file", ""))


def _address(given: str, where: str) -> str:
    """Scheme, host and port. Raises SettingsError."""
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    extra = parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password
    if parts.scheme not in ("http", "https") or not parts.hostname or any(extra):
        shown = given.rpartition("@")[2]
        raise SettingsError(f'"{shown}" is no address of a server.', where=where, hint="https://host, without a path")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")
