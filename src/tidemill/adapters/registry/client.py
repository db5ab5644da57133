"""Port `registry` over HTTP: Confluent's Schema Registry, and those that speak like it (Karapace, Apicurio).

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast
from urllib.parse import quote, urlsplit

from tidemill.model.errors import ContractError, DefinitionError, SettingsError, UnknownName, Unreachable
from tidemill.ports.registry import Reference, RegistrySchema, SchemaFormat

_TYPE = "application/vnd.schemaregistry.v1+json"
#: Answers that another try may change: too many requests, and what a leader's change looks like.
_AGAIN = (429, 500, 502, 503, 504)
#: A schema of a thousand fields has some 100 KB.
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Where a registry is and who asks.

    Args:
        urls: `https://host:port/path`; the next one is asked where one does not answer.
        user, password: basic authentication.
        token: bearer authentication.
        ca: a file with the certificates to trust; None: the system's.
        certificate, key: files with the client's own.
        timeout: seconds for an answer; tries: how often each address is asked; wait: seconds before the second try,
            twice as long before each further one.
    """

    urls: Sequence[str]
    user: str = ""
    password: str = ""
    token: str = ""
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    timeout: float = 10.0
    tries: int = 3
    wait: float = 0.2


class HttpRegistry:
    """A registry behind addresses. `sleep` waits between tries."""

    def __init__(self, settings: RegistrySettings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._urls = [_checked(url) for url in settings.urls]
        if not self._urls:
            raise SettingsError("The schema registry has no address.", hint='"http://localhost:8081"')
        self._headers = {"Accept": _TYPE, "Content-Type": _TYPE, "User-Agent": "tidemill"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        elif settings.user:
            known = base64.b64encode(f"{settings.user}:{settings.password}".encode()).decode("ascii")
            self._headers["Authorization"] = f"Basic {known}"
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=_trust(settings)), _NoRedirection()
        )
        self._by_id: dict[int, RegistrySchema] = {}
        self._ids: dict[tuple[str, RegistrySchema], int] = {}

    def by_id(self, number: int) -> RegistrySchema:
        """See the port."""
        if number not in self._by_id:
            found = self._ask("GET", f"/schemas/ids/{number}", missing=(40403,))
            if found is None:
                raise UnknownName(f"The registry has no schema with the id {number}.", hint="is it the right registry?")
            self._by_id[number] = _schema(found)
        return self._by_id[number]

    def version(self, subject: str, version: int | None = None) -> RegistrySchema | None:
        """See the port."""
        which = "latest" if version is None else version
        found = self._ask("GET", f"/subjects/{_name(subject)}/versions/{which}", missing=(40401, 40402))
        return None if found is None else _schema(found)

    def id_of(self, subject: str, schema: RegistrySchema) -> int | None:
        """See the port."""
        if (subject, schema) not in self._ids:
            found = self._ask("POST", f"/subjects/{_name(subject)}", _body(schema), missing=(40401, 40403))
            if found is None:
                return None
            self._ids[subject, schema] = int(found["id"])
        return self._ids[subject, schema]

    def register(self, subject: str, schema: RegistrySchema) -> int:
        """See the port."""
        if (subject, schema) not in self._ids:
            found = self._ask("POST", f"/subjects/{_name(subject)}/versions", _body(schema), subject=subject)
            assert found is not None, "only what may be missing is None"
            self._ids[subject, schema] = int(found["id"])
        return self._ids[subject, schema]

    def incompatibilities(self, subject: str, schema: RegistrySchema) -> tuple[str, ...]:
        """See the port."""
        path = f"/compatibility/subjects/{_name(subject)}/versions/latest?verbose=true"
        found = self._ask("POST", path, _body(schema), missing=(40401, 40402))
        if found is None or found.get("is_compatible"):
            return ()
        return tuple(str(each) for each in found.get("messages") or ()) or ("the registry gives no reason",)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        missing: tuple[int, ...] = (),
        subject: str = "",
    ) -> Any:
        """The answer; None where its code says that there is no such thing."""
        data = None if body is None else json.dumps(body).encode()
        status, answer = self._answer(method, path, data)
        if status < 300:
            return answer
        code, said = _complaint(answer)
        if status == 404 and code in missing:
            return None
        if status in (401, 403):
            raise SettingsError(
                f"The schema registry at {self._hosts} refuses this: {said or status}.",
                hint="set user and password, or a token, that may do it",
            )
        if status == 409:
            raise ContractError(
                f'The schema is incompatible with earlier ones of "{subject}": {said}',
                hint="give added fields a default, keep the types of others; or set the subject's compatibility",
            )
        if status == 422:
            raise DefinitionError(f"The schema registry refuses the schema: {said}.")
        raise SettingsError(f"The schema registry at {self._hosts} answers {status}: {said or 'nothing more'}.")

    def _answer(self, method: str, path: str, data: bytes | None) -> tuple[int, Any]:
        why = ""
        for attempt in range(self._settings.tries):
            if attempt:
                self._sleep(self._settings.wait * 2 ** (attempt - 1))
            for url in self._urls:
                try:
                    status, answer = self._once(method, url + path, data)
                except (OSError, http.client.HTTPException) as error:
                    why = str(getattr(error, "reason", error))
                    continue
                if status not in _AGAIN:
                    return status, answer
                why = f"{status} {_complaint(answer)[1]}".strip()
        raise Unreachable(f"The schema registry at {self._hosts} does not answer: {why}.")

    def _once(self, method: str, url: str, data: bytes | None) -> tuple[int, Any]:
        request = urllib.request.Request(url, data, self._headers, method=method)  # noqa: S310 - `_checked` looked at it
        try:
            with self._opener.open(request, timeout=self._settings.timeout) as answer:
                return int(answer.status), _parsed(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error)

    @property
    def _hosts(self) -> str:
        return ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in self._urls)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Follows nothing: what tells who asks is meant for the registry alone."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        """See `HTTPRedirectHandler`."""


def _checked(url: str) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f'"{parts.netloc or url}" is no address of a schema registry.', hint="http://localhost:8081"
        )
    if parts.username or parts.password:
        raise SettingsError("The schema registry's address holds a password.", hint="set user and password beside it")
    return url.strip().rstrip("/")


def _trust(settings: RegistrySettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:
        raise SettingsError(f"A certificate for the schema registry cannot be read: {error}.") from None
    return context


def _name(subject: str) -> str:
    return quote(subject, safe="")


def _parsed(answer: Any) -> Any:
    content = answer.read(_MOST_BYTES)
    try:
        return json.loads(content)
    except ValueError:
        return {"message": content[:200].decode("utf-8", "replace")}


def _complaint(answer: Any) -> tuple[int, str]:
    if not isinstance(answer, dict):
        return 0, ""
    return int(answer.get("error_code") or 0), str(answer.get("message") or "").rstrip(".")


def _schema(found: Mapping[str, Any]) -> RegistrySchema:
    references = tuple(
        Reference(str(each["name"]), str(each["subject"]), int(each["version"]))
        for each in found.get("references") or ()
    )
    return RegistrySchema(str(found["schema"]), cast(SchemaFormat, found.get("schemaType") or "AVRO"), references)


def _body(schema: RegistrySchema) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": schema.text}
    if schema.format != "AVRO":
        body["schemaType"] = schema.format
    if schema.references:
        body["references"] = [
            {"name": each.name, "subject": each.subject, "version": each.version} for each in schema.references
        ]
    return body
