"""Who asks a web service: what a declaration's connection and authentication put on each request, and to whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tidemill.adapters.http.basic import basic
from tidemill.adapters.http.trust import ca_file_of, headers_of
from tidemill.adapters.http.wire import Request, origin_of
from tidemill.model.errors import SettingsError, UnknownName
from tidemill.model.masking import Masker
from tidemill.model.rest import ApiKey, Auth, Basic, Bearer, OAuth2, Rest, shown_url
from tidemill.ports.tasks import Connections

#: A token is asked for anew so many seconds before its end.
_EARLY = 30.0
#: How long a token without a word about it is used.
_LIFE = 3600.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown to the service: headers, and parameters of the query."""

    headers: Mapping[str, str]
    query: Mapping[str, str]


class Who:
    """The declared one.

    Args:
        spec: the source; its address is made whole by the connection's.
        connections: the project's.
        secret: the value of `env:NAME`.
        now: seconds, for the life of tokens.

    Raises:
        UnknownName, SettingsError: the connection is missing, or of another host.
    """

    def __init__(
        self, spec: Rest, connections: Connections, secret: Callable[[str], str], now: Callable[[], float]
    ) -> None:
        self.masker = Masker()
        self._connections = connections
        self._secret = secret
        self._now = now
        self._auth: Auth | None = spec.auth
        name = spec.connection or (None if isinstance(spec.auth, OAuth2 | None) else spec.auth.connection)
        found = self._found(name) if name is not None else None
        base = _address(found) if found is not None else None
        self.url = _whole(spec.url, base, name)
        # The path may have templates, with blanks; the host has none.
        self.origin = origin_of("/".join(self.url.partition("?")[0].split("/")[:3]))
        self._headers = headers_of(found["extra"]) if found is not None else {}
        named = dict.fromkeys(filter(None, (name, getattr(spec.auth, "connection", None))))
        #: Certificates of authorities that its connections trust.
        self.ca_files = tuple(file for one in named if (file := ca_file_of(self._found(one)["extra"])) is not None)
        if self._auth is None and found is not None and (found["login"] or found["password"]):
            self._auth = Basic(str(name))
        for value in self._headers.values():
            self.masker.add(value)
        self._token: tuple[str, float] | None = None
        self._lock = threading.Lock()

    @property
    def may_renew(self) -> bool:
        """Whether a refusal may be answered by a new token."""
        return isinstance(self._auth, OAuth2)

    def forget(self) -> None:
        """The token is not taken any more."""
        with self._lock:
            self._token = None

    def shown(self, ask: Callable[[Request], Any]) -> Shown:
        """What requests to the service's own host have. `ask` gives the JSON object that a request is answered with."""
        auth = self._auth
        if isinstance(auth, Basic):
            found = self._found(auth.connection)
            made = basic(found["login"], found["password"])
            self.masker.add(made["Authorization"].partition(" ")[2])
            return Shown({**self._headers, **made}, {})
        if isinstance(auth, Bearer):
            return self._bearer(self._value(auth.connection, auth.token))
        if isinstance(auth, ApiKey):
            value = self._value(auth.connection, auth.key)
            if auth.where == "query":
                return Shown(self._headers, {auth.name: value})
            return Shown({**self._headers, auth.name: value}, {})
        if isinstance(auth, OAuth2):
            return self._bearer(self._bought(auth, ask))
        return Shown(self._headers, {})

    def _bearer(self, token: str) -> Shown:
        return Shown({**self._headers, "Authorization": f"Bearer {token}"}, {})

    def _value(self, connection: str | None, given: str | None) -> str:
        value = self._secret(given) if given is not None else self._found(str(connection))["password"]
        if not value:
            raise SettingsError(f'The connection "{connection}" has no secret.', hint="https://:SECRET@host/path")
        if any(char < " " for char in value):
            raise SettingsError(f'The secret of "{connection or given}" has control characters.')
        self.masker.add(value)
        return value

    def _bought(self, auth: OAuth2, ask: Callable[[Request], Any]) -> str:
        """A token for the client's credentials, bought when there is none that is good for a while."""
        with self._lock:
            if self._token is not None and self._now() < self._token[1]:
                return self._token[0]
            found = self._found(auth.connection)
            form = {"grant_type": "client_credentials"}
            form |= {name: text for name, text in (("scope", auth.scope), ("audience", auth.audience)) if text}
            own: dict[str, str] = {}
            if auth.client == "header":
                # RFC 6749, 2.3.1: both are form-encoded first.
                own = basic(quote(found["login"], safe=""), quote(found["password"], safe=""))
                self.masker.add(own["Authorization"].partition(" ")[2])
            else:
                form |= {"client_id": found["login"], "client_secret": found["password"]}
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
            body = urlencode(form).encode()
            answer = ask(Request("POST", _address(found), headers, body, own))
            token = answer.get("access_token") if isinstance(answer, dict) else None
            if not isinstance(token, str) or not token:
                raise SettingsError(f'{shown_url(_address(found))} gave no access_token to "{auth.connection}".')
            self.masker.add(token)
            life = answer.get("expires_in", _LIFE)
            seconds = float(life) if isinstance(life, int | float | str) and str(life).strip() else _LIFE
            self._token = (token, self._now() + max(seconds - _EARLY, seconds / 2))
            return token

    def _found(self, name: str) -> Mapping[str, Any]:
        found = self._connections.get(name)
        if found is None:
            error = UnknownName.of("connection", name, ())
            error.hint = f"set TIDEMILL_CONN_{name.upper()}=https://user:secret@host/path"
            raise error
        if found["conn_type"] not in ("http", "https"):
            raise SettingsError(f'The connection "{name}" is of kind "{found["conn_type"]}".', hint="http or https")
        self.masker.add(found["password"])
        return found


def _address(found: Mapping[str, Any]) -> str:
    port = f":{found['port']}" if found["port"] else ""
    host = f"[{found['host']}]" if ":" in found["host"] else found["host"]
    return f"{found['conn_type']}://{host}{port}/{found['schema']}"


def _whole(url: str, base: str | None, name: str | None) -> str:
    """The address of the source, at its connection's host."""
    if "://" not in url:
        if base is None:
            raise SettingsError(f'"{url}" is a path, and there is no connection.', hint='connection="shop_api"')
        return f"{base.rstrip('/')}/{url.lstrip('/')}" if url else base
    host = "/".join(url.partition("?")[0].split("/")[:3])
    if base is not None and origin_of(base) != origin_of(host):
        raise SettingsError(
            f'{shown_url(url)} is not at the host of the connection "{name}", {shown_url(base)}.',
            hint="a connection's secrets go to its own host only: give a path, or the host's own connection",
        )
    return url
