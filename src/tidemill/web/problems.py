"""Errors as answers: what happened, where, and what to try, as RFC 9457 has it (application/problem+json)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct, json
from starlette.responses import Response

from tidemill.model.errors import (
    Conflict,
    DataError,
    LimitError,
    Refused,
    RunFailed,
    TidemillError,
    UnknownName,
    Unreachable,
    UserError,
)
from tidemill.model.masking import hide

MEDIA_TYPE = "application/problem+json"


class Unwelcome(TidemillError):
    """A request that is not carried out for what it is, or for who asks; it carries its status code."""

    def __init__(
        self, status: int, what: str, *, hint: str | None = None, kind: str = "bad-request",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(what, hint=hint)
        self.status = status
        self.kind = kind
        self.headers = headers or {}


def bad_request(what: str, hint: str | None = None) -> Unwelcome:
    """The request cannot be understood."""
    return Unwelcome(400, what, hint=hint)


class Problem(Struct, omit_defaults=True):
    """Why a request was not carried out."""

    type: Annotated[str, Meta(description="the kind of problem, always the same for one kind")]
    title: Annotated[str, Meta(description="the status in words")]
    status: int
    detail: Annotated[str, Meta(description="what happened, with the names involved")]
    where: Annotated[str, Meta(description="the place in the user's file or data")] | None = None
    hint: Annotated[str, Meta(description="what to try next")] | None = None
    request_id: Annotated[str, Meta(description="by which the server's log has it")] | None = None


#: The first class that an error is of says its status.
_STATUS: tuple[tuple[type[TidemillError], int], ...] = (
    (UnknownName, 404),
    (LimitError, 413),
    (DataError, 422),
    (Conflict, 409),
    (Refused, 409),
    (RunFailed, 409),
    (Unreachable, 503),
    (UserError, 422),
)
_TITLES = {
    400: "Bad request", 401: "Not logged in", 403: "Not allowed", 404: "Not found", 405: "Method not allowed",
    409: "Conflict", 413: "Too large", 414: "Address too long", 415: "Unsupported media type",
    421: "Misdirected request", 422: "Cannot be carried out", 429: "Too many requests", 500: "A defect of the server",
    503: "A service does not answer",
}  # fmt: skip


def status_of(error: TidemillError) -> int:
    """The status code of an error."""
    if isinstance(error, Unwelcome):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def answer(error: TidemillError, request_id: str | None = None) -> Response:
    """An error as a response; secrets are masked."""
    status = status_of(error)
    kind = error.kind if isinstance(error, Unwelcome) else _slug(type(error).__name__)
    problem = Problem(
        type=f"/problems/{kind}",
        title=_TITLES.get(status, "Problem"),
        status=status,
        detail=hide(error.what),
        where=hide(error.where) if error.where else None,
        hint=hide(error.hint) if error.hint else None,
        request_id=request_id,
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, Unwelcome):
        headers |= error.headers
    return Response(json.encode(problem), status, headers, MEDIA_TYPE)


def defect(request_id: str) -> Response:
    """The answer to an error of ours: what happened is in the log, and nobody else's affair."""
    hint = f"the server's log has the error under request {request_id}"
    return answer(Unwelcome(500, "The server has met an error of its own.", hint=hint, kind="defect"), request_id)


def _slug(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
