"""`tidemill serve users`, `tokens` and `audit`: who may come in, by what, and what they have done."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group, limit_option
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import cell, count, moment, plain
from tidemill.model.errors import UserError

if TYPE_CHECKING:
    from tidemill.model.access import ApiToken, Entry, User
    from tidemill.wiring.access import ProjectAccess

_NAME = click.argument("name")


@click.group(cls=Group)
def users() -> None:
    """Add users, give them roles, disable them.

    Users log in where the server is reached from other computers; on this one no login is needed unless [web] login =
    "always". Roles are viewer, operator and admin, in general and, by PIPELINE=ROLE, for one pipeline.
    """


@users.command("ls", cls=Command)
@pass_invocation
def list_users(invocation: Invocation) -> None:
    """List users and their roles."""
    found = _access(invocation).people.users()
    if invocation.json:
        invocation.out.object({"users": [_user(one) for one in found]})
        return
    out = invocation.out
    if found:
        columns = [
            Column("user"),
            Column("role"),
            Column("pipelines", yields=1),
            Column("since"),
            Column("comes in by"),
        ]
        out.grid(
            columns, [[one.name, one.role.word, _roles(one) or "-", moment(one.created_at), _by(one)] for one in found]
        )
    else:
        out.line("no users")
    out.next("tidemill serve users add NAME --role viewer")


@users.command("add", cls=Command)
@_NAME
@click.option("--role", metavar="ROLE", default="viewer", show_default=True, help="viewer, operator, admin, or none.")
@click.option("--on", "roles", multiple=True, metavar="PIPELINE=ROLE", help="Another role on a pipeline; repeatable.")
@click.option("--no-password", is_flag=True, help="For a program: nobody logs in by this name, tokens do.")
@pass_invocation
def add_user(invocation: Invocation, name: str, role: str, roles: tuple[str, ...], no_password: bool) -> None:
    """Add a user; the password is asked for, or standard input.

    A password has at least 12 characters. It is kept as a hash (Argon2) only.
    """
    from tidemill.model.access import Role, user_name

    wanted, given, on = user_name(name), Role.of(role), _given_roles(invocation, roles)
    access = _access(invocation)
    _see_is_new(access, wanted)
    made = access.people.add(_asker(), wanted, given, None if no_password else _password(wanted), on)
    _done(invocation, "added", made, f"tidemill serve tokens add TITLE --user {made.name}")


@users.command("role", cls=Command)
@_NAME
@click.argument("role", required=False)
@click.option("--on", "roles", multiple=True, metavar="PIPELINE=ROLE",
              help="The role on a pipeline; PIPELINE= takes it back. Repeatable.")  # fmt: skip
@pass_invocation
def set_role(invocation: Invocation, name: str, role: str | None, roles: tuple[str, ...]) -> None:
    """Change what a user may do, from the next request on."""
    from tidemill.model.access import Role

    if role is None and not roles:
        raise UserError("No role was given.", hint="tidemill serve users role NAME operator, or --on PIPELINE=operator")
    given = None if role is None else Role.of(role)
    made = _access(invocation).people.set_role(_asker(), name, given, _given_roles(invocation, roles, taken_back=True))
    _done(invocation, "changed", made, "tidemill serve users ls")


@users.command("disable", cls=Command)
@_NAME
@click.option("--undo", is_flag=True, help="Let the user come back.")
@pass_invocation
def disable_user(invocation: Invocation, name: str, undo: bool) -> None:
    """Keep a user out: sessions end, tokens open nothing.

    Users are not deleted: the audit log names them.
    """
    made = _access(invocation).people.disable(_asker(), name, undo=undo)
    _done(invocation, "enabled" if undo else "disabled", made, "tidemill serve users ls")


@users.command("password", cls=Command)
@_NAME
@click.option("--none", "no_password", is_flag=True, help="Take it away: nobody logs in by this name any more.")
@pass_invocation
def set_password(invocation: Invocation, name: str, no_password: bool) -> None:
    """Set a password; all sessions of the user end.

    It is asked for, or read from standard input. Tokens stay: tidemill serve tokens revoke ID.
    """
    access = _access(invocation)
    _see_is_known(access, name)
    ended = access.people.set_password(_asker(), name, None if no_password else _password(name))
    if invocation.json:
        invocation.out.object({"user": name, "sessions_ended": ended})
        return
    invocation.out.facts([("set", name, f"{count(ended, 'sessions')} ended")])
    invocation.out.next("tidemill serve users ls")


@click.group(cls=Group)
def tokens() -> None:
    """Make tokens for programs, and revoke them.

    A program shows its token with each request: Authorization: Bearer tm_... A token can do no more than its user, and
    only its hash is kept.
    """


@tokens.command("ls", cls=Command)
@click.option("--user", metavar="NAME", help="Only those of a user.")
@click.option("--all", "all_", is_flag=True, help="Also those that are over.")
@pass_invocation
def list_tokens(invocation: Invocation, user: str | None, all_: bool) -> None:
    """List tokens: whose, for what, until when, last used."""
    access = _access(invocation)
    if user is not None:
        _see_is_known(access, user)
    now = access.gate.clock.now()
    found = [one for one in access.people.tokens(_asker(), user) if all_ or one.is_live(now)]
    if invocation.json:
        invocation.out.object({"tokens": [_token(one, now) for one in found]})
        return
    out = invocation.out
    if found:
        columns = [Column(name, yields=at) for at, name in enumerate(
            ("token", "user", "for", "role", "pipelines", "expires", "last used")
        )]  # fmt: skip
        out.grid(columns, [
            [one.id, one.user, plain(one.title), one.role.word, ", ".join(one.pipelines) or "all", _until(one, now),
             moment(one.used_at)]
            for one in found
        ])  # fmt: skip
    else:
        out.line("no tokens")
    out.next("tidemill serve tokens add TITLE --user NAME")


@tokens.command("add", cls=Command)
@click.argument("title")
@click.option("--user", required=True, metavar="NAME", help="Whose it is.")
@click.option("--role", metavar="ROLE", help="The most that it may; else what the user may now.")
@click.option("--on", "pipelines", multiple=True, metavar="PIPELINE", help="Only on this pipeline; repeatable.")
@click.option("--expires", metavar="TIME", default="90d", show_default=True, help="After so long: 12h, 90d, or never.")
@pass_invocation
def add_token(
    invocation: Invocation, title: str, user: str, role: str | None, pipelines: tuple[str, ...], expires: str
) -> None:
    """Make a token, and show it this once.

    TITLE says what it is for. The token is the one line of standard output; what is known of it goes beside it.
    """
    from tidemill.model.access import Role
    from tidemill.model.timetable import parse_duration

    lasts: timedelta | None = None if expires == "never" else parse_duration(expires)
    given = None if role is None else Role.of(role)
    _see_are_pipelines(invocation, pipelines)
    made, text = _access(invocation).people.add_token(_asker(), user, title, given, pipelines, lasts)
    if invocation.json:
        invocation.out.object({**_token(made, made.created_at), "token": text})
        return
    until = "never ends" if made.expires_at is None else f"ends {moment(made.expires_at)}"
    invocation.out.note(f"token {made.id} of {made.user}, {made.role.word}, {until}; it is not shown again")
    invocation.out.line(text)


@tokens.command("revoke", cls=Command)
@click.argument("id", metavar="ID")
@pass_invocation
def revoke_token(invocation: Invocation, id: str) -> None:
    """End a token, at once.

    ID is what `ls` shows: the eight characters after tm_.
    """
    # The whole text works, too: it is what people have at hand when it has leaked.
    from tidemill.flow.access import id_of

    made = _access(invocation).people.revoke_token(_asker(), id_of(id) or id)
    if invocation.json:
        invocation.out.object({"revoked": made.id})
        return
    invocation.out.facts([("revoked", made.id, f"of {made.user}", plain(made.title))])
    invocation.out.next("tidemill serve tokens ls")


@click.command(cls=Command)
@limit_option(50, "Entries to show; the cursor at the end goes on.")
@click.option("--before", type=click.IntRange(min=1), metavar="CURSOR", help="Go on where a page ended.")
@click.option("--who", metavar="NAME", help="Only what this user did.")
@click.option("--action", metavar="ACTION", help="Only this action.")
@click.option("--on", "pipeline", metavar="PIPELINE", help="Only what was done to this pipeline.")
@click.option("--refused", is_flag=True, help="Only what was refused.")
@click.option("--since", metavar="TIME", help="Only since then: 2026-01-31, 2026-01-31T12:00, or 7d.")
@pass_invocation
def audit(
    invocation: Invocation, limit: int, before: int | None, who: str | None, action: str | None, pipeline: str | None,
    refused: bool, since: str | None,
) -> None:  # fmt: skip
    """Show who did what, when, from where, and how it went.

    Newest first. Entries are kept for [web] audit_days, and nothing changes them.
    """
    from tidemill.model.access import Result
    from tidemill.model.action import ACTIONS, NOTED
    from tidemill.model.errors import UnknownName

    if action is not None and action not in (*ACTIONS, *NOTED):
        raise UnknownName.of("action", action, (*ACTIONS, *NOTED))
    access = _access(invocation)
    found, cursor = access.audit.page(
        max(1, limit), before, who=who, action=action, pipeline=pipeline,
        result=Result.REFUSED if refused else None, since=_time(since, access.gate.clock.now()),
    )  # fmt: skip
    if invocation.json:
        invocation.out.object({"entries": [_entry(one) for one in found], "next": cursor})
        return
    out = invocation.out
    if not found:
        out.line("no entries")
        return
    names = ("when", "who", "action", "target", "result", "from", "detail")
    out.grid([Column(name, yields=at) for at, name in enumerate(names)], [
        [moment(one.at), plain(one.who) or "-", one.action, plain(one.target) or "-", one.result.value,
         plain(one.address) or "here", ", ".join(f"{plain(k)}={cell(v)}" for k, v in one.detail.items()) or "-"]
        for one in found
    ])  # fmt: skip
    if cursor is not None:
        out.next(_next_page(invocation, cursor))


# ----------------------------------------------------------------------------------------------------------------------


def _access(invocation: Invocation) -> ProjectAccess:
    from tidemill.wiring.access import open_access

    return open_access(invocation.known_settings(), invocation.metadata)


def _asker() -> Any:
    """Whoever may run commands here may do everything, as they may read the database."""
    from tidemill.flow.access import Asker

    return Asker()


def _password(name: str) -> str:
    """What is typed twice unseen at a terminal, or all of standard input without its last line end."""
    from tidemill.plan.access import password_of

    if sys.stdin.isatty():
        prompt = f"password of {name}"
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True))
    given = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not given:
        raise UserError("No password was given.", hint="type it when asked, or send it to standard input")
    password_of(given, name)
    return given


def _given_roles(invocation: Invocation, given: tuple[str, ...], *, taken_back: bool = False) -> dict[str, Any]:
    """`PIPELINE=ROLE`, for pipelines that there are."""
    from tidemill.model.access import Role

    made: dict[str, Role | None] = {}
    for one in given:
        pipeline, sign, word = one.partition("=")
        if not sign or not pipeline or not (word or taken_back):
            raise UserError(f'"{one}" names no pipeline and role.', hint="--on PIPELINE=operator")
        made[pipeline] = Role.of(word) if word else None
    _see_are_pipelines(invocation, tuple(name for name, role in made.items() if role is not None))
    return made


def _see_are_pipelines(invocation: Invocation, names: tuple[str, ...]) -> None:
    """A misspelt pipeline would be a role on nothing. Those that no scheduler has read yet cannot be told."""
    from tidemill.model.errors import UnknownName

    if not names:
        return
    with invocation.metadata.read() as tx:
        known = [one.name for one in tx.definitions.pipelines(active=None)]
    for name in names:
        if known and name not in known:
            raise UnknownName.of("pipeline", name, known)


def _see_is_new(access: ProjectAccess, name: str) -> None:
    """Before a password is asked for."""
    from tidemill.model.errors import Refused

    if any(user.name == name for user in access.people.users()):
        raise Refused(f'There is a user "{name}" already.', hint=f"tidemill serve users password {name}")


def _see_is_known(access: ProjectAccess, name: str) -> None:
    from tidemill.model.access import user_name
    from tidemill.model.errors import UnknownName

    known = [user.name for user in access.people.users()]
    if user_name(name) not in known:
        raise UnknownName.of("user", name, known)


def _next_page(invocation: Invocation, cursor: int) -> str:
    """The same call for the next page."""
    import shlex

    told = list(invocation.arguments)
    while "--before" in told:
        at = told.index("--before")
        del told[at : at + 2]
    told = [one for one in told if not one.startswith("--before=")]
    return shlex.join(["tidemill", *told, "--before", str(cursor)])


def _time(text: str | None, now: datetime) -> datetime | None:
    from tidemill.model.errors import DefinitionError
    from tidemill.model.timetable import parse_duration

    if text is None:
        return None
    try:
        return now - parse_duration(text)
    except (DefinitionError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UserError(f'"{text}" is no time.', hint="2026-01-31, 2026-01-31T12:00, or 7d") from None


def _done(invocation: Invocation, verb: str, user: User, command: str) -> None:
    if invocation.json:
        invocation.out.object({verb: _user(user)})
        return
    invocation.out.facts([(verb, user.name, user.role.word, _roles(user))])
    invocation.out.next(command)


def _roles(user: User) -> str:
    return ", ".join(f"{name}={role.word}" for name, role in sorted(user.pipelines.items()))


def _by(user: User) -> str:
    if user.disabled_at is not None:
        return f"nothing: disabled {moment(user.disabled_at)}"
    return "tokens only" if user.password is None else "password"


def _user(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role.word,
        "pipelines": {name: role.word for name, role in user.pipelines.items()},
        "created_at": user.created_at,
        "disabled_at": user.disabled_at,
        "password_at": user.password_at,
    }


def _until(token: ApiToken, now: datetime) -> str:
    if token.revoked_at is not None:
        return f"revoked {moment(token.revoked_at)}"
    if token.expires_at is None:
        return "never"
    return moment(token.expires_at) if token.is_live(now) else f"over {moment(token.expires_at)}"


def _token(token: ApiToken, now: datetime) -> dict[str, Any]:
    return {
        "id": token.id,
        "user": token.user,
        "title": token.title,
        "role": token.role.word,
        "pipelines": list(token.pipelines),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
        "revoked_at": token.revoked_at,
        "live": token.is_live(now),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.at,
        "who": entry.who,
        "action": entry.action,
        "target": entry.target,
        "result": entry.result.value,
        "pipeline": entry.pipeline,
        "address": entry.address,
        "token": entry.token,
        "detail": dict(entry.detail),
    }
