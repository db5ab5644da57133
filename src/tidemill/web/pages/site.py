"""The pages: server-rendered, each from answers of the API; and the files that they need.

request -> identify -> the page's function (in a thread) -> template -> HTML with a strict policy
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mimetypes
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidemill.model.access import Principal
from tidemill.model.errors import TidemillError
from tidemill.model.masking import hide
from tidemill.version import __version__
from tidemill.web import problems
from tidemill.web.backend import Backend
from tidemill.web.door import csrf_for
from tidemill.web.pages.ask import Api
from tidemill.web.pages.words import FILTERS, FUNCTIONS, Given

_log = logging.getLogger("tidemill")

_WEB = Path(__file__).resolve().parent.parent
STATIC = _WEB / "static"
#: No script and no style in the page itself; charts and grids set styles by script, which this allows.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".woff2": "font/woff2"}
_SMALL = 1024
#: Where modules name modules, and where the style sheet names fonts.
_IMPORT = re.compile(rb'((?:from |import |import\(|URL\()"\./[a-z]+\.js)"')
_FONT = re.compile(rb'(url\("\.\./(vendor/[\w./-]+))"\)')


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Args:
        path: of its address, with `{name}` for parts.
        template: its file.
        make: gives what the template says, from the API.
        section: the entry of the side that is shown as the current one.
        follows: kinds of events after which it is made again.
    """

    path: str
    template: str
    make: Callable[[Api, Mapping[str, Any]], dict[str, Any]]
    section: str
    follows: tuple[str, ...] = ("run", "pipeline")


#: The entries of the side: name, address.
SECTIONS = (
    ("Home", "/"), ("Pipelines", "/pipelines"), ("Runs", "/runs"), ("Lineage", "/lineage"), ("Data", "/data"),
    ("Branches", "/branches"), ("Streams", "/streams"), ("Quality", "/quality"),
)  # fmt: skip

#: The cookie of the theme.
THEME = "tidemill_theme"

#: Says who asks; raises Unwelcome for those who may not.
Identify = Callable[[Request], Awaitable[Principal]]


def page_routes(backend: Backend, identify: Identify, pages: tuple[Page, ...]) -> list[Route]:
    """Routes of the pages and of their files."""
    made = environment(backend.settings.name)
    routes = [Route(page.path, _serving(page, made, backend, identify), methods=["GET"]) for page in pages]

    async def login(request: Request) -> Response:
        shown = made.get_template("login.html").render(request=request)
        return _sent(request, shown.encode(), "text/html; charset=utf-8", 200, {"Cache-Control": "no-store"})

    routes.append(Route("/login", login, methods=["GET"]))
    return [*routes, Route("/static/{path:path}", show_file, methods=["GET"])]


@cache
def environment(project: str) -> Environment:
    """The templates."""
    made = Environment(
        loader=FileSystemLoader(_WEB / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= FILTERS
    made.globals |= {
        **FUNCTIONS, "project": project, "version": __version__, "sections": SECTIONS, "file": address_of_file,
        "theme": theme_of,
    }  # fmt: skip
    return made


def theme_of(request: Request) -> str | None:
    """The theme that the reader has chosen by its button, as pages keep it in a cookie; None: that of the system."""
    chosen = request.cookies.get(THEME)
    return chosen if chosen in ("light", "dark") else None


def _serving(
    page: Page, templates: Environment, backend: Backend, identify: Identify
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        request_id = secrets.token_hex(8)
        try:
            principal = await identify(request)
            made = await asyncio.to_thread(_rendered, page, templates, Api(request, backend, principal))
            status = 200
        except TidemillError as error:
            status = problems.status_of(error)
            if status == 401:
                return _to_login(request)
            made = templates.get_template("error.html").render(
                page=page, request=request, principal=None, csrf=None, what=hide(error.what),
                where=error.where and hide(error.where), hint=error.hint and hide(error.hint),
            )  # fmt: skip
        except Exception:
            _log.exception("request %s: page %s", request_id, request.url.path)
            status = 500
            made = templates.get_template("error.html").render(
                page=page, request=request, principal=None, csrf=None, where=None, hint=None,
                what=f"A defect of Tidemill. Its log says more under request {request_id}.",
            )  # fmt: skip
        return _sent(request, made.encode(), "text/html; charset=utf-8", status, {"Cache-Control": "no-cache, private"})

    return serve


def _rendered(page: Page, templates: Environment, api: Api) -> str:
    told = page.make(api, Given(api.request.query_params))
    return templates.get_template(page.template).render(
        page=page, request=api.request, principal=api.principal, csrf=csrf_for(api.request), **told
    )


def _to_login(request: Request) -> Response:
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Response(status_code=303, headers={**HEADERS, "Location": f"/login?next={quote(asked, safe='')}"})


def _sent(request: Request, content: bytes, kind: str, status: int, headers: Mapping[str, str]) -> Response:
    made = Response(content, status, {**HEADERS, **headers}, kind)
    if len(content) >= _SMALL and "gzip" in request.headers.get("accept-encoding", ""):
        packed = zlib.compress(content, 6, wbits=31)
        made = Response(packed, status, {**HEADERS, **headers, "Content-Encoding": "gzip"}, kind)
    made.headers["Vary"] = "Accept-Encoding"
    return made


# -- files


@cache
def _files() -> dict[str, tuple[bytes, bytes | None, str, str]]:
    """Path -> content, packed content, type, and a tag that changes with it.

    What a file asks for, it asks for by its tag too, so that browsers fetch it once, and never ask again. Modules name
    each other, in circles even: they share one.
    """
    read = {
        path.relative_to(STATIC).as_posix(): path.read_bytes() for path in sorted(STATIC.rglob("*")) if path.is_file()
    }
    modules = _tag(b"".join(content for name, content in read.items() if name.startswith("js/")))
    found = {}
    for name, content in read.items():
        tag = modules if name.startswith("js/") else _tag(content)
        if name.startswith("js/"):
            content = _IMPORT.sub(rb"\1?" + modules.encode() + rb'"', content)
        elif name == "css/tidemill.css":
            content = _FONT.sub(lambda match: b'%b?%b")' % (match[1], _tag(read[match[2].decode()]).encode()), content)
            tag = _tag(content)
        suffix = Path(name).suffix
        packed = zlib.compress(content, 9, wbits=31) if suffix != ".woff2" else None
        kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
        found[name] = (content, packed, kind, tag)
    return found


def _tag(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def address_of_file(path: str) -> str:
    """The address of a file, which changes with its content."""
    return f"/static/{path}?{_files()[path][3]}"


async def show_file(request: Request) -> Response:
    """One of the files that pages need: only those that are there, so that no path leads elsewhere."""
    found = _files().get(request.path_params["path"])
    if found is None:
        return Response("There is no such file.", 404, HEADERS, "text/plain")
    content, packed, kind, tag = found
    named = request.url.query == tag
    headers = {
        **HEADERS, "ETag": f'"{tag}"', "Vary": "Accept-Encoding",
        "Cache-Control": "public, max-age=31536000, immutable" if named else "no-cache",
    }  # fmt: skip
    if request.headers.get("if-none-match") == f'"{tag}"':
        return Response(status_code=304, headers=headers)
    if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, 200, {**headers, "Content-Encoding": "gzip"}, kind)
    return Response(content, 200, headers, kind)
