"""Port `secrets` on files: a `.env`, and a folder with a file for each secret, as containers mount them."""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from tidemill.model.errors import SettingsError
from tidemill.model.secret import CONNECTIONS, LARGEST, VARIABLES, Secret, canonical, found_among, name_of, variable_of

_log = logging.getLogger("tidemill.secrets")
_ASSIGNED = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}
#: A `.env` is at most so many bytes.
_LARGEST_ENV = 1 << 20
#: Files that were warned about.
_warned: set[str] = set()


class DotEnvSecrets:
    """Variables in a `.env`: they are looked up there, and are not put into the environment.

    Nothing in it is executed or replaced: `$NAME` and backquotes stand for themselves.
    """

    kind = ".env"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[tuple[int, int], dict[str, str]] | None = None

    def get(self, name: str) -> Secret | None:
        """One secret."""
        found = found_among(self.variables(), name)
        return Secret(found[1], self._path.name) if found else None

    def names(self) -> list[str]:
        """All names."""
        return sorted({name for variable, value in self.variables().items() if value and (name := name_of(variable))})

    def variables(self) -> dict[str, str]:
        """All of them; none where there is no file. Read again when it has changed.

        Raises:
            SettingsError: the file cannot be read, or a line is no assignment.
        """
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if self._known is not None and self._known[0] == stamp:
                return self._known[1]
            if found.st_size > _LARGEST_ENV:
                raise SettingsError("The file is too large for variables.", where=str(self._path))
            text = self._path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"The variables cannot be read: {why}.", where=str(self._path)) from None
        _warn_if_open(self._path, found.st_mode)
        self._known = (stamp, parse_env(text, str(self._path)))
        return self._known[1]


def parse_env(text: str, where: str) -> dict[str, str]:
    """The variables of a `.env`: `NAME=value`, `export NAME='literal'`, `NAME="with escapes"` over any number of lines.

    Raises:
        SettingsError: a line is something else; it is named by its number, and not shown.
    """
    found: dict[str, str] = {}
    at, end = 0, len(text)
    while at < end:
        line = text.count("\n", 0, at) + 1
        stop = text.find("\n", at)
        stop = end if stop < 0 else stop
        if not (content := text[at:stop].strip()) or content.startswith("#"):
            at = stop + 1
            continue
        begin = at + len(text[at:stop]) - len(text[at:stop].lstrip())
        assigned = _ASSIGNED.match(text, begin, stop)
        if assigned is None:
            raise SettingsError("This is no NAME=value.", where=f"{where}:{line}")
        quote = text[assigned.end() : assigned.end() + 1]
        if quote in ("'", '"') and quote:
            value, stop = _quoted(text, assigned.end() + 1, quote, f"{where}:{line}")
        else:
            value = re.split(r"(?:^|[ \t])#", text[assigned.end() : stop], maxsplit=1)[0].strip()
        found[assigned[1]] = value
        at = stop + 1
    return found


def _quoted(text: str, at: int, quote: str, where: str) -> tuple[str, int]:
    """The value that begins after a quote, and where its last line ends."""
    made: list[str] = []
    while at < len(text) and text[at] != quote:
        if quote == '"' and text[at] == "\\" and text[at + 1 : at + 2] in _ESCAPES and at + 1 < len(text):
            made.append(_ESCAPES[text[at + 1]])
            at += 2
        else:
            made.append(text[at])
            at += 1
    stop = text.find("\n", at)
    stop = len(text) if stop < 0 else stop
    rest = text[at + 1 : stop].strip()
    if at >= len(text) or (rest and not rest.startswith("#")):
        what = "A quote is not closed." if at >= len(text) else "Something follows a closed quote."
        raise SettingsError(what, where=where)
    return "".join(made), stop


def _warn_if_open(path: Path, mode: int) -> None:
    if stat.S_IMODE(mode) & 0o077 and str(path) not in _warned:
        _warned.add(str(path))
        _log.warning("%s can be read by others: chmod 600 %s", path, path)


class FolderSecrets:
    """A folder with a file for each secret: `pii-key`, `connections/shop_db`, or named as the variables are.

    Links must not lead out of it; those within, which Kubernetes makes, may be followed.
    """

    kind = "files"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> Secret | None:
        """One secret."""
        own = canonical(name)
        for path in (self._folder / own, self._folder / own.replace("-", "_"), self._folder / variable_of(name)):
            try:
                if not path.resolve().is_relative_to(self._folder.resolve()):
                    raise SettingsError(f'The file of "{name}" is a link out of its folder.', where=str(path))
                if not path.is_file():
                    continue
                if path.stat().st_size > LARGEST:
                    raise SettingsError(f'The file of "{name}" has more than {LARGEST} bytes.', where=str(path))
                value = path.read_bytes().decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise SettingsError(f'The secret "{name}" cannot be read: {why}.', where=str(path)) from None
            value = value.removesuffix("\n").removesuffix("\r")
            if value:
                return Secret(value, str(path))
        return None

    def names(self) -> list[str]:
        """All names."""
        return sorted({name for name in self._all() if self.get(name) is not None})

    def _all(self) -> Iterator[str]:
        for prefix in ("", CONNECTIONS, VARIABLES):
            folder = self._folder / prefix
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name.startswith(".") or not path.is_file():
                    continue
                named = name_of(path.name) if not prefix else None
                try:
                    yield named or canonical(prefix + path.name)
                except SettingsError:
                    continue  # another program's
