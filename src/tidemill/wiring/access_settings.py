"""What section `[web]` of a project's settings says about who may come in.

[web]
login = "auto"            beyond this computer a login is needed; "always": here, too (behind a proxy); "never"
open_to_all = true        with "never": whoever reaches the computer may do everything
audit_days = 365          how long the audit log is kept
idle = "12h"              a session that is not used ends after so long
session = "14d"           every session does
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidemill.model.errors import DefinitionError, SettingsError, UnknownName
from tidemill.model.timetable import parse_duration
from tidemill.plan.access import LOGIN

ACCESS_KEYS = ("login", "open_to_all", "audit_days", "idle", "session")


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may come in; see the module's text."""

    login: str = "auto"
    open_to_all: bool = False
    audit_days: int = 365
    idle: timedelta = timedelta(hours=12)
    session: timedelta = timedelta(days=14)


def read_access_settings(data: Mapping[str, Any], where: str) -> AccessSettings:
    """Its part of the section. Raises SettingsError, UnknownName."""
    given = {key: value for key, value in data.get("web", {}).items() if key in ACCESS_KEYS}
    login, open_to_all, days = given.get("login", "auto"), given.get("open_to_all", False), given.get("audit_days", 365)
    if login not in LOGIN:
        raise UnknownName.of("kind of login", str(login), LOGIN, where=where)
    if not isinstance(open_to_all, bool):
        what = f"web.open_to_all = {open_to_all!r} is neither true nor false."
        raise SettingsError(what, where=where, hint="open_to_all = true")
    if not isinstance(days, int) or isinstance(days, bool) or not 0 < days <= 36_500:
        raise SettingsError(f"web.audit_days = {days!r} is no number of days.", where=where, hint="audit_days = 365")
    try:
        idle, session = (parse_duration(str(given.get(name, other))) for name, other in _LASTS)
    except DefinitionError as error:
        raise SettingsError(error.what, where=where, hint=error.hint) from None
    return AccessSettings(login, open_to_all, days, idle, session)


_LASTS = (("idle", "12h"), ("session", "14d"))
