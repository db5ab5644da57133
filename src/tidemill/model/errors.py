"""Every error that a user can meet: what happened, where, and what to try. The class says whether to retry.

TidemillError                 exit code
├── UserError                 2   the user's file, name or setting is wrong
│   ├── DefinitionError           a pipeline, table or check is declared wrongly
│   ├── UnknownName               no such table, pipeline, branch ...: "did you mean"
│   └── SettingsError             tidemill.toml, an environment variable, a URL
├── DataError                 1   the input is not what was declared
│   ├── DecodeError               bytes that cannot be read as the format says
│   ├── ContractError             rows or columns that the contract refuses
│   └── LimitError                a safety limit (bomb, nesting, field size) was met
├── RunFailed                 1   a task of a run failed; `main` is untouched
│   └── CheckFailed               a check of severity "error" failed
├── Conflict                  1   somebody else moved what this write was based on (retry on a fresh fork)
│   ├── Fenced                    this attempt was replaced by a newer one: stop
│   └── Busy                      another live run holds the lease
├── Refused                   1   the operation would break a promise (moving a bookmark back ...)
└── Unreachable               3   a service did not answer (retry later)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


class TidemillError(Exception):
    """Base of all errors that Tidemill raises on purpose.

    Args:
        what: one sentence that says what happened, with the names involved.
        where: the place in the user's file or data, e.g. `pipelines/flights.py:12` or `feeds/a.csv line 7`.
        hint: what to try next, as a sentence or a command.
    """

    #: The exit code of the command line.
    exit_code = 1
    #: True where doing the same again later can succeed.
    retryable = False

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.hint:
            lines.append(f"  try: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(kind: type[TidemillError], what: str, where: str | None, hint: str | None) -> TidemillError:
    error = kind.__new__(kind)
    TidemillError.__init__(error, what, where=where, hint=hint)
    return error


class UserError(TidemillError):
    """The user's file, name or setting is wrong."""

    exit_code = 2


class DefinitionError(UserError):
    """A pipeline, table, source or check is declared wrongly."""


class UnknownName(UserError):
    """A name that does not exist; the message offers the nearest ones that do."""

    @classmethod
    def of(
        cls,
        kind: str,
        name: str,
        known: Iterable[str],
        *,
        where: str | None = None,
        offer: Callable[[str], str] = str,
    ) -> UnknownName:
        """Build the error for `name`, a `kind` ("table", "branch") looked up among `known`.

        `offer` makes of a known name what the user is offered to write.
        """
        known = sorted(set(known))
        near = [offer(n) for n in difflib.get_close_matches(name, known, n=3, cutoff=0.6)]
        if near:
            hint = "did you mean " + " or ".join(f'"{n}"' for n in near) + "?"
        elif known:
            shown = ", ".join(offer(n) for n in known[:8]) + (f", ... ({len(known)} in all)" if len(known) > 8 else "")
            hint = f"known: {shown}"
        else:
            hint = f"there is no {kind} yet"
        return cls(f'There is no {kind} "{name}".', where=where, hint=hint)


class NeedsMemory(UserError):
    """A statement needs more memory than it may have, and what it has in hand cannot wait on the disk."""


class SettingsError(UserError):
    """A setting in tidemill.toml, an environment variable or a URL is wrong."""


class DataError(TidemillError):
    """The input is not what was declared."""


class DecodeError(DataError):
    """Bytes that cannot be read as the format says."""


class ContractError(DataError):
    """Rows or columns that the table's contract refuses."""


class LimitError(DataError):
    """A safety limit (unpacked size, nesting depth, field size) was met."""


class RunFailed(TidemillError):
    """A task of a run failed. `main` is untouched; the run's branch stays for inspection."""


class CheckFailed(RunFailed):
    """A check of severity "error" failed."""


class Conflict(TidemillError):
    """Somebody else moved what this write was based on; it may succeed on a fresh fork."""

    retryable = True


class Fenced(Conflict):
    """This attempt was replaced by a newer one and must stop without another effect."""

    retryable = False


class Busy(Conflict):
    """Another live run holds the lease of the same pipeline and interval."""


class Refused(TidemillError):
    """The operation would break a promise, so it was not begun."""


class Unreachable(TidemillError):
    """A service did not answer."""

    exit_code = 3
    retryable = True
