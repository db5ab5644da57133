"""Decisions about access: may somebody do this, is a login needed, does a request come from this computer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from tidemill.model.access import Principal
from tidemill.model.action import ACTIONS, Reach
from tidemill.model.errors import SettingsError, UnknownName, UserError

#: Characters of a password at least (NIST SP 800-63B-4 asks for 8, and 15 where it is all there is), bytes at most.
SHORTEST, LARGEST = 12, 1024
LOGIN = ("auto", "always", "never")
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1|0:0:0:0:0:0:0:1")


def allowed(who: Principal, action: str, pipelines: Iterable[str] = ()) -> bool:
    """Whether somebody may do something.

    Args:
        who: asks.
        action: a name of `ACTIONS`.
        pipelines: those that it concerns. If none is named, an action of a pipeline is one on all of them.

    Raises:
        UnknownName: there is no such action.
    """
    if action not in ACTIONS:
        raise UnknownName.of("action", action, ACTIONS)
    asked, named = ACTIONS[action], tuple(pipelines)
    match asked.reach:
        case Reach.PIPELINE if named:
            return all(who.may(asked.least, one) for one in named)
        case Reach.PIPELINE | Reach.EVERYWHERE:
            return who.may_everywhere(asked.least)
        case Reach.SOMEWHERE:
            return who.may_somewhere(asked.least)
        case Reach.OWN:
            return who.token is None and who.may_somewhere(asked.least)
        case Reach.PROJECT:
            return who.may(asked.least)


def refusal(who: Principal, action: str, pipelines: Iterable[str] = ()) -> str | None:
    """Why somebody may not do something, in a sentence; None: they may. Raises as `allowed`."""
    named = tuple(pipelines)
    if allowed(who, action, named):
        return None
    asked = ACTIONS[action]
    if asked.reach is Reach.OWN and who.token is not None:
        return f"{action} is for people who have logged in, not for tokens."
    where = {Reach.SOMEWHERE: "", Reach.OWN: "", Reach.PROJECT: " of the project"}.get(asked.reach, " on all pipelines")
    if asked.reach is Reach.PIPELINE and named:
        lacking = next(one for one in named if not who.may(asked.least, one))
        where = f' on pipeline "{lacking}"'
    return f"{action} needs the role {asked.least.word}{where}."


def login_needed(login: str, host: str, *, is_open: bool = False) -> bool:
    """Whether whoever comes must log in.

    Args:
        login: `auto`: beyond this computer; `always`; `never`.
        host: where the server listens.
        is_open: that others may come in without a login was said a second time.

    Raises:
        UnknownName: `login` is another word.
        SettingsError: anybody who reaches the computer could do anything, and that was not said twice.
    """
    if login not in LOGIN:
        raise UnknownName.of("kind of login", login, LOGIN)
    if login == "always":
        return True
    if is_loopback(host):
        return False
    if login == "auto":
        return True
    if not is_open:
        raise SettingsError(
            f'Without a login, whoever reaches {host or "this computer"} may do everything: [web] login = "never".',
            hint='login = "auto", or listen on 127.0.0.1; open_to_all = true says that you want it so',
        )
    return False


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches what listens there."""
    return _LOOPBACK.fullmatch(host.strip().lower().removeprefix("[").removesuffix("]")) is not None


def is_from_here(host_header: str | None, *, is_forwarded: bool) -> bool:
    """Whether a request that needs no login is really one of this computer.

    A page of the web can have its own name resolve to 127.0.0.1 and then ask this server, but the browser tells the
    name (`Host`). A proxy on this computer passes on what comes from anywhere, but says so (`Forwarded`,
    `X-Forwarded-For`).
    """
    if is_forwarded or not host_header:
        return False
    host = host_header.strip()
    name, colon, port = host.rpartition(":")
    return is_loopback(name if colon and port.isdigit() and not name.endswith(":") else host)


def normal(given: str) -> str:
    """A password as it is looked at: letters that look alike are written alike (NFKC), whatever the keyboard writes."""
    return unicodedata.normalize("NFKC", given)


def password_of(given: str, user: str) -> str:
    """A new password, as it is hashed.

    Raises:
        UserError: it cannot be a password; the text is not in the error.
    """
    made = normal(given)
    if len(made) < SHORTEST:
        raise UserError(f"The password has fewer than {SHORTEST} characters.", hint="a sentence is easy to remember")
    if len(made.encode("utf-8", "surrogatepass")) > LARGEST:
        raise UserError(f"The password has more than {LARGEST} bytes.")
    if user and user in made.lower() and len(made) < len(user) + SHORTEST // 2:
        raise UserError("The password is the user's name, or little more.", hint="a sentence is easy to remember")
    if len(set(made)) < 4:
        raise UserError("The password is one character, or two, again and again.", hint="a sentence")
    return made
