"""The arguments of `Pipeline.files`, looked at before anything runs."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from tidemill.authoring.place import here
from tidemill.model.duration import read_duration
from tidemill.model.errors import DefinitionError
from tidemill.model.pipeline import FILE_SCHEMES, FilesOrigin
from tidemill.plan.globs import Glob


def files_origin(
    pattern: str,
    optional: bool,
    connection: str | None,
    new: bool,
    complete_after: str | timedelta | None,
    done: str | None,
) -> FilesOrigin:
    """What the arguments say.

    Raises:
        DefinitionError: one of them cannot be, or they contradict each other.
    """
    scheme, sign, rest = pattern.partition("://")
    if sign:
        _check_address(pattern, scheme, rest)
    if done is not None and ("/" in done or done in ("", "{name}", ".", "..")):
        raise DefinitionError(f"done={done!r} names no file beside another one.", where=here(), hint='done="{name}.ok"')
    if new and optional:
        raise DefinitionError(
            "optional=True is for the files of an interval; new=True takes what there is.",
            where=here(),
            hint="leave optional out",
        )
    age = None if complete_after is None else read_duration(complete_after, "complete_after", where=here())
    return FilesOrigin(pattern, optional, connection, bool(new), age, done)


def _check_address(pattern: str, scheme: str, rest: str) -> None:
    if scheme not in FILE_SCHEMES:
        raise DefinitionError(
            f'No source takes "{scheme}://".',
            where=here(),
            hint="a path inside the project, or " + ", ".join(FILE_SCHEMES),
        )
    host, _, path = rest.partition("/")
    if "{" in host or not host or not path:
        raise DefinitionError(
            f'"{scheme}://{host.rpartition("@")[2]}" is followed by no path, or has no fixed host.',
            where=here(),
            hint=f"{scheme}://host/path",
        )
    if scheme in ("http", "https") and not Glob(path.partition("?")[0]).is_fixed:
        raise DefinitionError(
            "A web server lists no files, so that nothing can match a pattern.",
            where=here(),
            hint="the whole address, with {{ ds }} where the day stands",
        )
    try:
        parts = urlsplit(f"{scheme}://{host}")
        password, _ = parts.password, parts.port
    except ValueError:
        raise DefinitionError(f'"{scheme}://{host.rpartition("@")[2]}" is no address.', where=here()) from None
    if password is not None or (scheme in ("s3", "http", "https") and parts.username is not None):
        raise DefinitionError(
            "The address has a login, which does not belong into code.",
            where=here(),
            hint='a path alone, and connection="partner" with TIDEMILL_CONN_PARTNER in the environment',
        )
