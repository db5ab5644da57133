"""Asking the API of an installation: its answers as facts, its problems as the errors that they were there.

An action that gets no answer is asked for once more under the same Idempotency-Key: the server does it once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tidemill.model import errors
from tidemill.model.errors import Refused, SettingsError, TidemillError, Unreachable, UserError
from tidemill.ports.asked import Facts
from tidemill.ports.http import Answer, HttpClient

#: Things of a list that are asked for at once.
PAGE = 500
#: Fields that hold a time, and fields that hold lists of them; an `interval` may also be a text.
_MOMENTS = frozenset((
    "at", "created_at", "started_at", "ended_at", "queued_at", "next_at", "seen_at", "extracted_at", "archived_at",
    "loaded_at", "published_at", "changed_at", "committed_at", "expires_at", "error_at", "waiting_since", "due",
    "asked_at", "until",
))  # fmt: skip
_SPANS = frozenset(("interval", "next_interval", "newest", "spans", "redriven"))
#: Fields that hold what users wrote, or what their tables have: whatever is in there is left as it is.
_USERS = frozenset((
    "conf", "params", "definition", "schema", "types", "options", "bookmark_before", "bookmark_after",
    "rows", "row", "key", "value", "headers", "form",
))  # fmt: skip


def kinds_by_slug() -> Mapping[str, type[TidemillError]]:
    """Kinds of errors by what the API calls them: `UnknownName` is /problems/unknown-name."""
    found: dict[str, type[TidemillError]] = {}
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, TidemillError):
            slug = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
            found[slug] = kind
    return found


_KINDS = kinds_by_slug()


def revived(value: Any, field: str = "", *, listed: bool = False) -> Any:
    """JSON as facts: times are times again. `listed`: it is in a list of that field."""
    if field in _USERS:
        return value
    if isinstance(value, dict):
        return {name: revived(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [revived(one, field, listed=True) for one in value]
    is_time = isinstance(value, str) and field in (_SPANS if listed else _MOMENTS)
    return datetime.fromisoformat(value) if is_time else value


def path(*parts: str | int) -> str:
    """A path of the API; names of pipelines and tasks may hold anything."""
    return "/api/v1/" + "/".join(quote(str(part), safe="") for part in parts)


class Server:
    """The API of an installation.

    Args:
        client: asks its host, and shows the token; it follows no redirection.
        name: what the server is called in messages.
        version: of this side.
        note: is told what a person should know, such as that the other side is of another version.
    """

    def __init__(self, client: HttpClient, name: str, version: str, note: Callable[[str], None]) -> None:
        self._client = client
        self._name = name
        self._version = version
        self._note = note
        self._known = False

    def get(self, where: str, **query: Any) -> Facts:
        """Read something. Raises what the server would have raised here, and Unreachable, SettingsError, Refused."""
        self._greet()
        given = {name: value for name, value in query.items() if value is not None}
        return self._facts(self._ask("GET", where, query=given))

    def file(self, where: str, **query: Any) -> bytes:
        """Read a file, whole. Raises as `get`, and LimitError."""
        self._greet()
        answer = self._ask("GET", where, query={name: value for name, value in query.items() if value is not None})
        if not answer.ok or answer.status >= 300:
            self._facts(answer)
        return answer.content

    def pages(self, where: str, field: str, limit: int | None = None, **query: Any) -> Iterator[Facts]:
        """The things of a list, newest or first ones first, page by page."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = self.get(where, limit=PAGE if left is None else min(left, PAGE), cursor=cursor, **query)
            yield from page[field]
            left = None if left is None else left - len(page[field])
            cursor = page["next"]
            if cursor is None:
                return

    def act(self, where: str, body: Mapping[str, Any] | None = None, *, dry_run: bool = False) -> Facts:
        """Do something, once. Raises as `get`."""
        self._greet()
        headers = {"Content-Type": "application/json"}
        if not dry_run:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        query = {"dry_run": "true"} if dry_run else {}
        content = json.dumps(body or {}).encode()
        try:
            answer = self._ask("POST", where, headers, query, content)
        except Unreachable:  # it may have been done, and the answer lost
            answer = self._ask("POST", where, headers, query, content)
        return self._facts(answer)

    def tell(self, text: str) -> None:
        """Tell whoever asks something beside the answer."""
        self._note(text)

    def _greet(self) -> None:
        """See, once, that a server of ours is there, and which version it has."""
        if self._known:
            return
        found = self._facts(self._ask("GET", "/health"))
        if "version" not in found or "project" not in found:
            raise self._stranger()
        if found["version"] != self._version:
            self._note(f"{self._name} is Tidemill {found['version']}, this is {self._version}")
        self._known = True

    def _ask(
        self, method: str, where: str, headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None, body: bytes | None = None,
    ) -> Answer:  # fmt: skip
        """Ask; what the client hints at are connections, which this is none of."""
        try:
            return self._client.request(method, where, headers=headers or {}, query=query or {}, body=body)
        except Unreachable as error:
            error.hint = error.hint or "whether `tidemill up` runs there, and --server is its address"
            raise
        except SettingsError as error:
            if error.hint and "ca_file" in error.hint:
                error.hint = "TIDEMILL_SERVER_CA=/path/of/its/authority.pem, or ca_file in the file of servers"
            raise

    def _facts(self, answer: Answer) -> Facts:
        if 300 <= answer.status < 400:
            elsewhere = answer.headers.get("location", "elsewhere")
            what = f"{self._name} sends to {elsewhere}, where the token is not shown."
            raise SettingsError(what, hint="--server with the address in the end")
        try:
            found = json.loads(answer.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            if answer.status >= 500:
                raise Unreachable(f"{self._name} does not answer: {answer.status} {answer.reason}.")
            raise self._stranger()
        if answer.status >= 400:
            raise self._error(answer, found)
        made: Facts = revived(found)
        return made

    def _stranger(self) -> SettingsError:
        what = f"{self._name} is no server of Tidemill."
        return SettingsError(what, hint="the address that `tidemill up` tells, without a path")

    def _error(self, answer: Answer, found: Mapping[str, Any]) -> TidemillError:
        """A problem as the error that it was."""
        slug = str(found.get("type", "")).rpartition("/")[2]
        what, where, hint = str(found.get("detail") or answer.reason), found.get("where"), found.get("hint")
        if answer.status == 401:
            said = f"{self._name} does not know who asks."
            return SettingsError(said, hint="TIDEMILL_TOKEN=tm_..., which `tidemill serve tokens add` makes there")
        if answer.status == 403:
            return Refused(f"{self._name} does not allow it: {what}", where=where, hint=hint)
        if slug == "unknown-path":
            said = f"{self._name} cannot do that: it is of another version."
            return SettingsError(said, hint=f"this is {self._version}")
        if answer.status == 429 or (answer.status >= 500 and slug != "unreachable"):
            return Unreachable(f"{self._name}: {what}", hint=hint)
        return _KINDS.get(slug, UserError)(what, where=where, hint=hint)
