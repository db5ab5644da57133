"""By which proxy a web service is asked: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, as other programs read them.

What is encrypted goes through a tunnel (CONNECT), which the proxy cannot look into. What is not is asked of the proxy
by its whole address: many proxies open tunnels to nothing but port 443.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tidemill.adapters.http.basic import basic
from tidemill.model.errors import SettingsError

_PORT = 3128
#: Codes by which a proxy says that it does not want us.
_REFUSED = ("401", "403", "407")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    Args:
        host, port: where it is.
        login: the header that tells it who asks.
    """

    host: str
    port: int
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def refused(self, error: BaseException) -> SettingsError | None:
        """The error for a tunnel that it does not open to us; None: it is another one."""
        told = str(error).partition("Tunnel connection failed: ")[2]
        if not told.startswith(_REFUSED):
            return None
        return SettingsError(
            f"The proxy {self} refuses: {told}.",
            hint="HTTPS_PROXY=http://login:password@host:port, or the host in NO_PROXY",
        )


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a host; None: it is asked itself.

    Raises:
        SettingsError: the variable names no proxy, or one that does not speak HTTP.
    """
    if urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    address = urllib.request.getproxies().get(scheme)
    if not address:
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        name, at = parts.hostname, parts.port
    except ValueError:
        name, at, parts = None, None, urlsplit("")
    if not name or parts.scheme != "http":
        raise SettingsError(
            f"{scheme.upper()}_PROXY is no proxy that can be asked.", hint="http://login:password@host:port"
        )
    login: dict[str, str] = {}
    if parts.username:
        login = basic(unquote(parts.username), unquote(parts.password or ""), "Proxy-Authorization")
    return Proxy(name, at or _PORT, login)
