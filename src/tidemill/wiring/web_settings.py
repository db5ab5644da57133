"""Section `[web]` of a project's settings.

[web]
host = "127.0.0.1"      TIDEMILL_WEB_HOST; where the API is served
port = 8080             TIDEMILL_WEB_PORT; if nothing is said, a free one where 8080 is taken
enabled = true          false: `tidemill up` serves no API
public_url = "https://pipelines.example"    TIDEMILL_WEB_PUBLIC_URL; what browsers call it, through a proxy
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tidemill.model.errors import SettingsError

WEB_KEYS = ("host", "port", "enabled", "public_url")
PORT = 8080
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where the API is served.

    Args:
        host: the address to listen on.
        port: 0 takes a free one. None: 8080, or a free one where that is taken.
        enabled: whether `tidemill up` serves it.
        public_url: its address for browsers where a proxy stands before it: scheme and host, and port if it has one.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    enabled: bool = True
    public_url: str | None = None

    @property
    def address(self) -> str:
        """What links to pages begin with; where a free port is taken, that is not known here."""
        return self.public_url or f"http://{self.host}:{self.port or PORT}"

    @property
    def is_local(self) -> bool:
        """Whether only this computer reaches it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def is_https(self) -> bool:
        """Whether browsers reach it by TLS, which a proxy ends."""
        return self.public_url is not None and self.public_url.startswith("https://")

    @property
    def public_host(self) -> str | None:
        """The name by which a proxy's visitors ask for it, without the port."""
        return None if self.public_url is None else urlsplit(self.public_url).hostname


def read_web_settings(data: Mapping[str, Any], env: Mapping[str, str], where: str) -> WebSettings:
    """The section, with the environment before it. Raises SettingsError."""
    given = data.get("web", {})
    host = env.get("TIDEMILL_WEB_HOST") or given.get("host", "127.0.0.1")
    enabled = given.get("enabled", True)
    if not isinstance(host, str) or not host:
        raise SettingsError(f"web.host = {host!r} is no address.", where=where, hint='host = "127.0.0.1"')
    if not isinstance(enabled, bool):
        raise SettingsError(f"web.enabled = {enabled!r} is neither true nor false.", where=where, hint="enabled = true")
    port = _port(env.get("TIDEMILL_WEB_PORT"), given.get("port"), where)
    public = _public(env.get("TIDEMILL_WEB_PUBLIC_URL") or given.get("public_url"), where)
    return WebSettings(host.strip("[]"), port, enabled, public)


def _public(given: Any, where: str) -> str | None:
    """An address as browsers send it in `Origin`: scheme, host, and the port where it is not the scheme's own."""
    if given is None:
        return None
    wrong = SettingsError(
        f"web.public_url = {given!r} is no address of a site.", where=where, hint='public_url = "https://host"'
    )
    try:
        parts = urlsplit(given) if isinstance(given, str) else urlsplit("")
        port = parts.port
    except ValueError:
        raise wrong from None
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username)
    if parts.scheme not in _PORTS or not parts.hostname or any(rest):
        raise wrong
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def _port(by_env: str | None, given: Any, where: str) -> int | None:
    port: Any = int(by_env) if by_env and by_env.isdecimal() else by_env or given
    if port is None:
        return None
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65536:
        raise SettingsError(f"web.port = {port!r} is no port.", where=where, hint=f"port = {PORT}")
    return port
