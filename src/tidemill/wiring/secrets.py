"""Secrets of a project: the places that its settings name, asked one after the other; and what logs must not show."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tidemill.model import airflow
from tidemill.model.errors import SettingsError, TidemillError
from tidemill.model.masking import GIVEN, Masker, is_secret, secrets_within
from tidemill.model.secret import (
    CONNECTION,
    CONNECTIONS,
    STORE_KEY,
    VARIABLE,
    VARIABLES,
    Secret,
    canonical,
    connection_name,
    variable_name,
    variable_of,
)
from tidemill.wiring.secret_settings import ENV_FILE, ENVIRONMENT, FILES, MANAGER, PARAMETERS, STORE
from tidemill.wiring.settings import FILE, Settings

if TYPE_CHECKING:
    from tidemill.adapters.crypto.keys import Keys
    from tidemill.adapters.crypto.secrets import StoredSecrets
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.secrets import Secrets

#: Addresses of files begin so.
_FILES = ("sqlite:", "duckdb:", "file:")
#: An address that is no more than a kind and a host.
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]+/?")


class ProjectSecrets:
    """Port `secrets` over several places: the first that has one gives it. What was given is hidden from then on.

    Args:
        places: in the order in which they are asked.
    """

    kind = "project"

    def __init__(self, places: list[Secrets]) -> None:
        self.places = places

    def get(self, name: str) -> Secret | None:
        """One secret."""
        name = canonical(name)
        for place in self.places:
            found = place.get(name)
            if found is not None:
                hide_secret(name, found.reveal())
                return found
        return None

    def must(self, name: str, where: str | None = None) -> Secret:
        """One secret. Raises SettingsError: no place has it."""
        found = self.get(name)
        if found is None:
            asked = ", ".join(place.kind for place in self.places)
            raise SettingsError(
                f'There is no secret "{name}".',
                where=where,
                hint=f"tidemill connections secrets set {name}, or set {variable_of(canonical(name))} (asked: {asked})",
            )
        return found

    def names(self) -> list[str]:
        """The names that all places know."""
        return sorted({name for place in self.places for name in place.names()})


def secrets_of(settings: Settings) -> ProjectSecrets:
    """The places that a project's settings name. Nothing is opened before it is asked."""
    makers: Mapping[str, Callable[[Settings], Secrets]] = {
        ENVIRONMENT: _environment, ENV_FILE: _env_file, FILES: _folder, MANAGER: partial(_aws, kind=MANAGER),
        PARAMETERS: partial(_aws, kind=PARAMETERS), STORE: stored_secrets,
    }  # fmt: skip
    return ProjectSecrets([makers[kind](settings) for kind in settings.secrets.order])


def _environment(_settings: Settings) -> Secrets:
    from tidemill.adapters.system.secrets import EnvironmentSecrets

    return EnvironmentSecrets()


def _env_file(settings: Settings) -> Secrets:
    from tidemill.adapters.localfs.secrets import DotEnvSecrets

    return DotEnvSecrets(settings.root / settings.secrets.env_file)


def _folder(settings: Settings) -> Secrets:
    from tidemill.adapters.localfs.secrets import FolderSecrets

    return FolderSecrets(settings.root / Path(settings.secrets.folder).expanduser())


def _aws(settings: Settings, kind: str) -> Secrets:
    from tidemill.adapters.aws.secrets import ParameterStore, SecretsManager
    from tidemill.wiring.services import system_clock

    made = SecretsManager if kind == MANAGER else ParameterStore
    given = settings.secrets
    return made(given.prefix, system_clock(), region=given.region, endpoint=given.endpoint)


def stored_secrets(settings: Settings) -> StoredSecrets:
    """The project's own store: its metadata database, and the key that opens it."""
    from tidemill.adapters.crypto.secrets import StoredSecrets

    return StoredSecrets(partial(_metadata, settings), settings.name, partial(store_keys, settings))


def _metadata(settings: Settings, make: bool) -> Metadata | None:
    from tidemill.wiring.services import open_metadata, system_clock

    url = settings.secrets.kept_in or settings.metadata_url
    local = url.startswith("sqlite:///")
    if not make and local and not (settings.root / url.removeprefix("sqlite:///")).is_file():
        return None
    return open_metadata(replace(settings, metadata_url=url), system_clock(), migrate=make)


def store_keys(settings: Settings) -> Keys | None:
    """The keys of the store; None: there are none. Raises SettingsError: what is there is no key."""
    from tidemill.adapters.crypto.keys import Keys, read_key_file

    text = os.environ.get(STORE_KEY)
    if text:
        GIVEN.add(text)
        return Keys(text, STORE_KEY)
    path = key_file(settings)
    found = read_key_file(path, settings.root)
    if found is None:
        return None
    GIVEN.add(found)
    return Keys(found, str(path))


def key_file(settings: Settings) -> Path:
    """Where the file of the store's keys is, or would be."""
    given = settings.secrets.key_file or f"~/.config/tidemill/{settings.name}.key"
    return settings.root / Path(given).expanduser()


def named_keys(settings: Settings, name: str, where: str | None = None) -> Keys:
    """The keys that a secret holds. Raises SettingsError: there is none, or it is no key."""
    from tidemill.adapters.crypto.keys import Keys

    found = secrets_of(settings).must(name, where)
    return Keys(found.reveal(), f"{canonical(name)} ({found.origin})")


# What logs must not show ----------------------------------------------------------------------------------------------


def hide_secret(name: str, value: str) -> None:
    """Hide a secret from now on; of a variable, what its name or names within its JSON tell to be one."""
    if not name.startswith(VARIABLES) or is_secret(name):
        hide_value(value, address=name.startswith(CONNECTIONS))
    else:
        hide_within(value)


def hide_within(value: str) -> None:
    """Hide what a text of JSON has under names that are those of secrets."""
    if value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            for text in secrets_within(json.loads(value)):
                GIVEN.add(text)


def hide_value(value: str, *, address: bool = False) -> None:
    """Hide a value from now on, in all that this process writes for people; of an address, also its parts."""
    for part in _hidden(value) if address else (value,):
        GIVEN.add(part)


def secret_values(environment: Mapping[str, str] | None = None) -> list[str]:
    """Values in variables that logs must not show: connections, and variables whose names tell that they are secret."""
    env = os.environ if environment is None else environment
    found = []
    for name, value in env.items():
        if name.startswith((CONNECTION, airflow.CONNECTION)):
            found += _hidden(value)
        elif is_secret(name):
            found.append(value)
    return [value for value in found if value]


def masker_of(settings: Settings, *, everything: bool = False) -> Masker:
    """What hides the project's secrets in this process: those of its variables, and each one when it is given out.

    Args:
        settings: the project.
        everything: also those that this process was not given: to write down what another one has said.
    """
    values = secret_values()
    if ENV_FILE in settings.secrets.order:
        values += secret_values(env_file_variables(settings))
    for value in values:
        GIVEN.add(value)
    if everything:
        for place in secrets_of(settings).places:
            try:
                for name in place.names():
                    found = place.get(name)
                    if found is not None:
                        hide_secret(name, found.reveal())
            except TidemillError:
                continue  # a place that does not answer gave nothing to the other process either
    return GIVEN


def env_file_variables(settings: Settings) -> dict[str, str]:
    """The variables of the project's `.env`; none where it cannot be read, which whoever needs one is told."""
    from tidemill.adapters.localfs.secrets import DotEnvSecrets

    try:
        return DotEnvSecrets(settings.root / settings.secrets.env_file).variables()
    except TidemillError:
        return {}


def _hidden(address: str) -> list[str]:
    """What of a connection is hidden: what is secret in it, and all of it, for the path of a web hook is a secret.

    The path of a file and a host alone are none, and hiding them would hide what errors are about.
    """
    parts = _parts(address)
    is_plain = address.startswith(_FILES) or _HOST.fullmatch(address)
    return parts if is_plain and not any(parts) else [address, *parts]


def _parts(address: str) -> list[str]:
    """What is secret in an address: its password, and values of its query such as `?api_key=...`."""
    try:
        if airflow.is_text(address.lstrip()):
            given = json.loads(address)
            extra = given.get("extra")
            inner = json.loads(extra) if isinstance(extra, str) and extra else extra
            return [str(given.get("password") or ""), *secrets_within(inner)]
        parts = urlsplit(address)
        encoded = parts.password or ""
        own = [unquote(encoded), *([encoded] if unquote(encoded) != encoded else [])]
        return [*own, *(v for name, v in parse_qsl(parts.query) if is_secret(name))]
    except ValueError:
        return []


# Connections ----------------------------------------------------------------------------------------------------------


class ProjectConnections:
    """Port `Connections` by the project's secrets: an address such as `postgresql://me:secret@host:5432/shop`.

    Args:
        secrets: where addresses are.
    """

    def __init__(self, secrets: ProjectSecrets) -> None:
        self._secrets = secrets

    def get(self, name: str) -> Mapping[str, Any] | None:
        """Parts of a connection."""
        found = self._secrets.get(connection_name(name))
        return None if found is None else connection_of(name, found.reveal())


def connections_of(settings: Settings) -> ProjectConnections:
    """The connections of a project."""
    return ProjectConnections(secrets_of(settings))


def connection_of(name: str, address: str) -> Mapping[str, Any]:
    """The parts of a connection, of its address; of one that is Airflow's, `airflow` has them as Airflow does.

    Raises:
        SettingsError: it is none.
    """
    if airflow.is_text(address):
        theirs = airflow.parts_of(address, name)
        return {"conn_id": name, **airflow.to_ours(theirs), "airflow": theirs}
    try:
        parts = urlsplit(address)
        hosts = parts.netloc.rpartition("@")[2]
        # Several servers stay one text: `kafka://one:9092,two:9092`.
        host, port = (hosts, None) if "," in hosts else (parts.hostname or "", parts.port)
    except ValueError:
        raise SettingsError(
            f'The connection "{name}" is no address.', hint="kind://login:password@host:port/path; encode @ as %40"
        ) from None
    return {
        "conn_id": name,
        "conn_type": parts.scheme,
        "host": host,
        "port": port,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "schema": unquote(parts.path.removeprefix("/")),
        "extra": dict(parse_qsl(parts.query)),
    }


class ProjectVariables:
    """Port `OwnVariables` by the environment, and by the project's secrets.

    Args:
        secrets: where variables are that are not in the environment.
        store: of these, the one that they can be set in; None: there is none.
    """

    def __init__(self, secrets: ProjectSecrets, store: StoredSecrets | None = None) -> None:
        self._secrets = secrets
        self._store = store

    def get(self, name: str) -> str | None:
        """The text of a variable."""
        for prefix in (VARIABLE, airflow.VARIABLE):
            found = os.environ.get(prefix + name.upper())
            if found is not None:
                hide_secret(VARIABLES + name, found)
                return found
        try:
            named = variable_name(name)
        except SettingsError:
            return None
        secret = self._secrets.get(named)
        return None if secret is None else secret.reveal()

    def set(self, name: str, text: str) -> None:
        """Set a variable in the store."""
        store, named = self._must_have_store(), variable_name(name)
        before = next((prefix for prefix in (VARIABLE, airflow.VARIABLE) if prefix + name.upper() in os.environ), None)
        found = None if before else self._secrets.get(named)
        if before or (found is not None and found.origin != store.kind):
            origin = f"in the environment ({before}{name.upper()})" if before else f"of {found.origin if found else ''}"
            raise SettingsError(
                f'The variable "{name}" is {origin}, which is asked before the store: what is set would not be seen.',
                hint="set it there, or take it out there",
            )
        store.put(named, text)
        hide_secret(named, text)

    def delete(self, name: str) -> bool:
        """Forget a variable of the store."""
        return self._must_have_store().remove(variable_name(name))

    def _must_have_store(self) -> StoredSecrets:
        if self._store is None:
            raise SettingsError("The project has no store of variables.", hint='[secrets] from = [..., "store"]')
        return self._store


def variables_of(settings: Settings) -> ProjectVariables:
    """The variables of a project."""
    secrets = secrets_of(settings)
    places = zip(settings.secrets.order, secrets.places, strict=True)
    store: Any = next((place for kind, place in places if kind == STORE), None)
    return ProjectVariables(secrets, store)


def secret_text(text: str, settings: Settings) -> str:
    """A value, or what `env:NAME` (a variable, also of `.env`) or `secret:NAME` stand for.

    Raises:
        SettingsError: there is none.
    """
    kind, sign, name = text.partition(":")
    if not sign or kind not in ("env", "secret"):
        return text
    if kind == "secret":
        return secrets_of(settings).must(name, str(settings.root / FILE)).reveal()
    value = os.environ.get(name)
    if not value and ENV_FILE in settings.secrets.order:
        value = env_file_variables(settings).get(name)
    if not value:
        raise SettingsError(
            f'"{text}" takes its value from the environment, and there is none.', where=str(settings.root / FILE)
        )
    GIVEN.add(value)
    return value
