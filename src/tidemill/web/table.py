"""What a route is: method, path, who may call it, what it takes and gives. `routes.py` is the one table of them.

request -> app: identify, admit (role, pipelines) -> handler(Asked) -> a value of the route's type -> JSON
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from msgspec import Meta, Struct
from starlette.requests import Request

from tidemill.model.access import Principal, Role
from tidemill.web.problems import Unwelcome

if TYPE_CHECKING:
    from tidemill.web.backend import Backend

PREFIX = "/api/v1"
#: Beyond this no id was given out, and databases cannot take it.
LARGEST_ID = 2**53


class Query(Struct, forbid_unknown_fields=True, frozen=True):
    """What a route takes in its query string: nothing, unless a subclass says more."""


#: For `Meta(extra=...)` of a list in a query string: a comma in what was given is a part of it, and parts nothing.
WHOLE = {"whole": True}


class DryRun(Query, frozen=True):
    """The query of an action."""

    dry_run: Annotated[bool, Meta(description="tell what would be done, and do nothing")] = False


class Body(Struct, forbid_unknown_fields=True, frozen=True):
    """What a route takes as JSON."""


Limit: TypeAlias = Annotated[int, Meta(ge=1, le=500, description="at most so many")]
Cursor: TypeAlias = Annotated[str, Meta(max_length=200, description="`next` of the page before")] | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a handler sees it.

    Args:
        request: as it came.
        backend: the project.
        principal: who asks.
        path: parts of the path, by name.
        query: the query string, as the route's type.
        body: the body, as the route's type; None for routes without one.
    """

    request: Request
    backend: Backend
    principal: Principal
    path: Mapping[str, Any]
    query: Any
    body: Any = None

    def sees(self, pipeline: str | None) -> bool:
        """Whether the asker may see a pipeline; None: what is no pipeline's."""
        return self.principal.may(Role.VIEWER, pipeline)

    def visible(self, given: Iterable[str] = ()) -> list[str] | None:
        """Pipelines to show, of those that were asked for (none: of all); None: there is no limit.

        A list can be filtered by it in the database.
        """
        wanted = list(dict.fromkeys(given))
        if wanted:
            return [name for name in wanted if self.sees(name)]
        if self.principal.role >= Role.VIEWER and all(r >= Role.VIEWER for r in self.principal.pipelines.values()):
            return None
        if self.principal.role < Role.VIEWER:
            return [name for name in self.principal.pipelines if self.sees(name)]
        with self.backend.metadata.read() as tx:
            known = {record.name for record in tx.definitions.pipelines(active=None)}
            known |= {batch.pipeline for batch in tx.batches.recent(limit=10_000)}
        return [name for name in sorted(known) if self.sees(name)]


#: Which pipelines a request is about; None: it is no pipeline's affair.
About: TypeAlias = Callable[[Asked], Iterable[str] | None]


def nobody(_asked: Asked) -> Iterable[str] | None:
    """About no pipeline: the role for everything else counts."""
    return None


def several(_asked: Asked) -> Iterable[str] | None:
    """About many pipelines: whoever may see one may ask, and the handler shows those that he may see."""
    raise AssertionError("admitted by `admit`, which knows it")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route.

    Args:
        method: of HTTP.
        path: after the prefix, with `{name}` or `{name:int}` or `{name:path}` for its parts.
        handler: gives the answer: a value of `gives`, or a response.
        role: that it asks for.
        about: the pipelines on which the asker needs it.
        gives: the type of the answer; None: no JSON (`media` says what).
        summary: one line for the document.
        query: the type of its query string.
        body: the type of its body; None: it has none.
        media: of an answer that is no JSON.
        open: nobody needs to be known: health, and the document itself.
        prefixed: False for paths beside the API.
        kept: its answer is made of the database alone, and may be given again while nothing is committed.
        action: what the audit log calls what it does (`model/action.py`); empty for what only reads.
        notes: fields of its body that the audit log has, too, where the path does not name what it is about.
    """

    method: str
    path: str
    handler: Callable[[Asked], Any]
    role: Role
    about: About
    gives: Any
    summary: str
    query: type[Query] = Query
    body: type[Body] | None = None
    media: str = "application/json"
    open: bool = False
    prefixed: bool = True
    kept: bool = False
    action: str = ""
    notes: tuple[str, ...] = ()

    @property
    def full_path(self) -> str:
        """With the prefix."""
        return f"{PREFIX if self.prefixed else ''}{self.path}"

    @property
    def changes(self) -> bool:
        """Whether it does something."""
        return self.method != "GET"


def admit(endpoint: Endpoint, asked: Asked) -> None:
    """Let a request through: the one place that decides who may do what.

    Raises:
        Unwelcome: 403.
        UnknownName: what the path names is not there.
    """
    if endpoint.open:
        return
    who, role = asked.principal, endpoint.role
    if not who.may(role) and not any(who.may(role, name) for name in who.pipelines):
        raise _forbidden(endpoint, None)  # before anything is looked up: not even what exists is told
    if endpoint.about is several:
        return
    names = endpoint.about(asked)
    for name in [None] if names is None else names:
        if not who.may(role, name):
            raise _forbidden(endpoint, name)


def _forbidden(endpoint: Endpoint, pipeline: str | None) -> Unwelcome:
    on = f' on pipeline "{pipeline}"' if pipeline is not None else ""
    return Unwelcome(403, f"This needs the role {endpoint.role.name.lower()}{on}.", kind="forbidden")
