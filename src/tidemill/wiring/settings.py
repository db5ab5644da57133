"""A project's settings: `tidemill.toml`, overridden by environment variables.

[project]                          TIDEMILL_PROJECT names the folder
name = "flights"
pipelines = ["pipelines/*.py", "pipelines/*.yaml", "pipelines/*.yml"]
[pipelines]                                  where the files come from; in this folder, if nothing is said
source = "git"                               or "s3", or "folder"
url = "https://example.org/flows.git"        or a path; s3://bucket/prefix
ref = "main"
path = "etl"                                 the folder in it
every = "60s"                                how often it is asked for changes
timeout = "30s"                              what reading one file may take
[metadata]
url = "sqlite:///.tidemill/tidemill.db"      TIDEMILL_METADATA_URL
[archive]
url = ".tidemill/archive"                    TIDEMILL_ARCHIVE_URL; a folder, or s3://bucket/prefix
encrypt = "archive-key"                      the secret whose key encrypts all that is written there
keys = ["older-key"]                         others, by which what lies there can be read
[lake]
url = ".tidemill/lake"                       TIDEMILL_LAKE_URL; likewise
[s3]                                         see object_settings.py
endpoint = "https://host:9000"               where s3://... is not Amazon's
[glue]                                       see glue_settings.py
region = "eu-central-1"                      the catalog of AWS Glue shows the lake's tables
[scheduler]
workers = 8                                  tasks at the same time on this machine; else one a core, at least four
broker = "amqp://guest@host//"               TIDEMILL_BROKER; Celery workers then do all tasks: tidemill serve worker
[pools]                                      slots by pool; "default" has 128, if nothing is said
small = 2
[hooks]                                      see hook_settings.py
token = "env:HOOK_TOKEN"                     POST /hooks/PIPELINE begins runs of pipelines with schedule "@webhook"
[web]                                        see web_settings.py, access_settings.py
host = "127.0.0.1"                           pages and API
port = 8080
login = "auto"                               who may come in: beyond this computer, users who log in
[console]                                    see console_settings.py
seconds = 30                                 that a query of somebody's own SQL may take
[secrets]                                    see secret_settings.py
from = ["environment", ".env", "store"]
[streams]                                    see stream_settings.py
broker = "kafka://host:9092"                 TIDEMILL_STREAMS_BROKER; else topics are in the metadata database
state = "sqlite"                             or "rocksdb", "memory"
[kafka]                                      settings of Kafka's client, by its names
[metrics]                                    see metrics_settings.py
listen = "127.0.0.1:9464"                    TIDEMILL_METRICS_LISTEN; /metrics for Prometheus
[otel]
enabled = true                               metrics and traces by OTEL_*; extra `otel`
[[notify]]                                   who is told what; any number of these
kind = "slack"                               or "webhook", "email"
url = "env:SLACK_URL"                        env: takes it from the environment; smtp://user:password@host for email
events = ["failed", "late"]                  of published, failed, cancelled, late, asked
pipelines = ["*"]                            all, if nothing is said
to = ["data@example.org"]                    of email; also from = "tidemill@example.org"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from tidemill.model.errors import DefinitionError, SettingsError, UnknownName
from tidemill.model.masking import GIVEN
from tidemill.model.timetable import parse_duration
from tidemill.ports.notifier import EVENTS
from tidemill.wiring.access_settings import ACCESS_KEYS, AccessSettings, read_access_settings
from tidemill.wiring.airflow_settings import AIRFLOW_KEYS, AirflowSettings, read_airflow_settings
from tidemill.wiring.console_settings import CONSOLE_KEYS, ConsoleSettings, read_console_settings
from tidemill.wiring.glue_settings import GLUE_KEYS, GlueSettings, read_glue_settings
from tidemill.wiring.hook_settings import HOOK_KEYS, HookSettings, read_hook_settings
from tidemill.wiring.metrics_settings import MetricsSettings, read_metrics_settings
from tidemill.wiring.object_settings import S3_KEYS, ObjectSettings, read_object_settings
from tidemill.wiring.secret_settings import ENV_FILE, SECRET_KEYS, SecretSettings, read_secret_settings
from tidemill.wiring.stream_settings import REGISTRY, StreamSettings, read_stream_settings
from tidemill.wiring.web_settings import WEB_KEYS, WebSettings, read_web_settings

FILE = "tidemill.toml"
STATE_FOLDER = ".tidemill"

_KNOWN = {
    "project": ("name", "pipelines"),
    "pipelines": ("source", "url", "ref", "path", "every", "timeout"),
    "metadata": ("url",),
    "archive": ("url", "encrypt", "keys"),
    "lake": ("url",),
    "s3": S3_KEYS,
    "glue": GLUE_KEYS,
    "scheduler": ("workers", "broker"),
    "hooks": HOOK_KEYS,
    "secrets": SECRET_KEYS,
    "streams": ("broker", "state", "tables_every", *REGISTRY),
    "metrics": ("listen", "token"),
    "web": (*WEB_KEYS, *ACCESS_KEYS),
    "console": CONSOLE_KEYS,
    "otel": ("enabled",),
    "airflow": AIRFLOW_KEYS,
}
#: Sections whose keys are the user's own names.
_FREE = ("pools", "kafka")
#: Sections of which there may be several.
_SEVERAL = {"notify": ("kind", "url", "events", "pipelines", "to", "from", "headers")}


_CODE_SOURCES = ("folder", "git", "s3")


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """Where pipeline files come from, and how they are read.

    Args:
        source: "folder", "git" or "s3".
        url: of the Git repository, or its path; of the object store's prefix.
        ref: a branch, tag or commit.
        path: the folder in the project, or in the repository, that the patterns are relative to.
        every: how often the repository is asked for changes.
        timeout: what reading one file may take.
    """

    source: str = "folder"
    url: str = ""
    ref: str = "HEAD"
    path: str = "."
    every: timedelta = timedelta(seconds=60)
    timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Where notices go: see the module's text."""

    kind: str
    url: str
    events: tuple[str, ...] = ("failed", "late")
    pipelines: tuple[str, ...] = ("*",)
    to: tuple[str, ...] = ()
    sender: str = "tidemill@localhost"
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project is made of. Relative addresses are relative to `root`."""

    root: Path
    name: str
    pipelines: tuple[str, ...] = ("pipelines/*.py", "pipelines/*.yaml", "pipelines/*.yml")
    metadata_url: str = f"sqlite:///{STATE_FOLDER}/tidemill.db"
    archive_url: str = f"{STATE_FOLDER}/archive"
    lake_url: str = f"{STATE_FOLDER}/lake"
    #: How addresses that begin with s3:// are reached.
    objects: ObjectSettings = field(default_factory=ObjectSettings)
    #: The catalog that shows the lake to other engines; None: there is none.
    glue: GlueSettings | None = None
    #: True where a settings file was found; False for a lone script.
    has_file: bool = False
    code: CodeSettings = CodeSettings()
    notify: tuple[NotifySettings, ...] = ()
    #: Tasks at the same time on this machine; None: one for each core, at least four.
    workers: int | None = None
    #: Of Celery: RabbitMQ (amqp://) or Redis (redis://); empty: workers of this machine, without a broker.
    broker: str = ""
    #: Where others may call; None: nowhere.
    hooks: HookSettings | None = None
    #: Who may come in.
    access: AccessSettings = field(default_factory=AccessSettings)
    #: Slots by pool.
    pools: Mapping[str, int] = field(default_factory=dict, hash=False)
    streams: StreamSettings = field(default_factory=StreamSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    web: WebSettings = field(default_factory=WebSettings)
    #: What queries of people may take.
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    #: The secret whose key encrypts the archive, and others by whose keys it is read; empty: none.
    archive_keys: tuple[str, ...] = ()
    encrypts_archive: bool = False
    secrets: SecretSettings = field(default_factory=SecretSettings)
    #: What holds for DAG files of Airflow that do not say it.
    airflow: AirflowSettings = field(default_factory=AirflowSettings)


def find_root(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds a settings file."""
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    return None


def load_settings(start: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of the project at or above `start` (or of `TIDEMILL_PROJECT`, or of the current folder).

    A folder without a settings file is a project of its own, named after the folder.

    Raises:
        SettingsError: the file cannot be read, or says something that is not a setting.
    """
    env = os.environ if environment is None else environment
    given = Path(env["TIDEMILL_PROJECT"]) if env.get("TIDEMILL_PROJECT") else None
    begin = (start or given or Path.cwd()).resolve()
    if not begin.is_dir():
        raise SettingsError(f'There is no folder "{begin}".', hint="--project names the folder of tidemill.toml")
    root = find_root(begin)
    data = _read(root / FILE) if root else {}
    root = root or begin
    secrets = read_secret_settings(data, str(root / FILE))
    if environment is None and ENV_FILE in secrets.order:
        env = {**_env_file(root / secrets.env_file), **os.environ}
    project = data.get("project", {})
    name = project.get("name") or name_from(root)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", str(name)):
        raise SettingsError(
            f'"{name}" cannot name a project.', where=str(root / FILE), hint="letters, digits, _ and -, at most 63"
        )
    patterns = project.get("pipelines", ["pipelines/*.py", "pipelines/*.yaml", "pipelines/*.yml"])
    defaults = Settings(root, name)
    lake_url = env.get("TIDEMILL_LAKE_URL") or data.get("lake", {}).get("url", defaults.lake_url)
    return Settings(
        root=root,
        name=name,
        pipelines=tuple([patterns] if isinstance(patterns, str) else patterns),
        metadata_url=env.get("TIDEMILL_METADATA_URL") or data.get("metadata", {}).get("url", defaults.metadata_url),
        archive_url=env.get("TIDEMILL_ARCHIVE_URL") or data.get("archive", {}).get("url", defaults.archive_url),
        lake_url=lake_url,
        objects=read_object_settings(data, str(root / FILE)),
        glue=read_glue_settings(data, lake_url, str(root / FILE)),
        secrets=secrets,
        archive_keys=_archive_keys(data.get("archive", {}), str(root / FILE)),
        encrypts_archive=bool(data.get("archive", {}).get("encrypt")),
        has_file=(root / FILE).is_file(),
        code=_code(data.get("pipelines", {}), str(root / FILE)),
        workers=_count(data.get("scheduler", {}).get("workers"), "scheduler.workers", str(root / FILE)),
        broker=env.get("TIDEMILL_BROKER") or data.get("scheduler", {}).get("broker", ""),
        pools={
            name: _count(slots, f"pools.{name}", str(root / FILE)) or 0 for name, slots in data.get("pools", {}).items()
        },
        hooks=read_hook_settings(data["hooks"], lambda text: secret_of(text, env, str(root / FILE)), str(root / FILE))
        if "hooks" in data
        else None,
        access=read_access_settings(data, str(root / FILE)),
        streams=read_stream_settings(data, env, str(root / FILE), lambda text: secret_of(text, env, str(root / FILE))),
        metrics=read_metrics_settings(data, env, str(root / FILE), lambda text: secret_of(text, env, str(root / FILE))),
        web=read_web_settings(data, env, str(root / FILE)),
        console=read_console_settings(data, str(root / FILE)),
        airflow=read_airflow_settings(data, str(root / FILE)),
        notify=tuple(_notify(one, env, str(root / FILE)) for one in data.get("notify", ())),
    )


def _env_file(path: Path) -> Mapping[str, str]:
    """The variables of a `.env`, for what the settings take from the environment; a file of another kind has none."""
    from tidemill.adapters.localfs.secrets import DotEnvSecrets

    try:
        return DotEnvSecrets(path).variables()
    except SettingsError:
        return {}


def _archive_keys(given: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The names of the archive's keys, the one that encrypts first."""
    named = [given["encrypt"]] if given.get("encrypt") else []
    others = given.get("keys", [])
    for name in (*named, *(others if isinstance(others, list) else [others])):
        if not isinstance(name, str):
            raise SettingsError(f"{name!r} names no secret.", where=where, hint='[archive] encrypt = "archive-key"')
    return tuple(dict.fromkeys([*named, *([others] if isinstance(others, str) else others)]))


def _count(value: Any, name: str, where: str) -> int | None:
    """A number of something, at least one."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise SettingsError(f"{name} = {value!r} is no number of them.", where=where, hint="1 or more")
    return value


def secret_of(text: str, env: Mapping[str, str], where: str) -> str:
    """A value, or with `env:NAME` that of the environment. Raises SettingsError: it has none."""
    if not text.startswith("env:"):
        return text
    found = env.get(text.removeprefix("env:"))
    if not found:
        raise SettingsError(f'"{text}" takes its value from the environment, and there is none.', where=where)
    GIVEN.add(found)
    return found


def _notify(given: Mapping[str, Any], env: Mapping[str, str], where: str) -> NotifySettings:
    """One `[[notify]]`."""
    for key in given:
        if key not in _SEVERAL["notify"]:
            raise UnknownName.of("setting in [[notify]]", key, _SEVERAL["notify"], where=where)
    kind, url = given.get("kind", ""), str(given.get("url", ""))
    if kind not in ("webhook", "slack", "email"):
        raise UnknownName.of("kind of notice", str(kind), ("webhook", "slack", "email"), where=where)
    url = secret_of(url, env, where)
    events = tuple(given.get("events", ("failed", "late")))
    for event in events:
        if event not in EVENTS:
            raise UnknownName.of("event", str(event), EVENTS, where=where)
    to = given.get("to", ())
    if not url or (kind == "email" and not to):
        missing = 'to = ["me@example.org"]' if url else 'url = "https://..."'
        raise SettingsError(f'[[notify]] of kind "{kind}" lacks a setting.', where=where, hint=missing)
    return NotifySettings(
        kind,
        url,
        events,
        tuple(given.get("pipelines", ("*",))),
        (to,) if isinstance(to, str) else tuple(to),
        str(given.get("from", "tidemill@localhost")),
        dict(given.get("headers", {})),
    )


def _code(given: Mapping[str, Any], where: str) -> CodeSettings:
    """Section `[pipelines]`."""
    values = dict(given)
    try:
        for name in ("every", "timeout"):
            if name in values:
                values[name] = parse_duration(str(values[name]))
    except DefinitionError as error:
        raise SettingsError(error.what, where=where, hint=error.hint) from None
    made = CodeSettings(**values)
    if made.source not in _CODE_SOURCES:
        raise UnknownName.of("source of pipelines", made.source, _CODE_SOURCES, where=where)
    if made.source == "s3" and not made.url.startswith("s3://"):
        raise SettingsError(f'"{made.url}" is no prefix of an object store.', where=where, hint="s3://bucket/prefix")
    if made.source != "s3" and (made.source == "git") != bool(made.url):
        hint = 'source = "git" and url = "https://..." belong together'
        raise SettingsError("[pipelines] names a Git repository by half.", where=where, hint=hint)
    path = PurePosixPath(made.path)
    if path.is_absolute() or ".." in path.parts:
        raise SettingsError(f'"{made.path}" leads out of the project.', where=where, hint='path = "etl"')
    return made


def origins(settings: Settings, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where each setting in force comes from: the environment variable, the settings file, or "default"."""
    env = os.environ if environment is None else environment
    file = settings.root / FILE
    data = _read(file) if file.is_file() else {}
    found = {}
    for section, keys in _KNOWN.items():
        for key in keys:
            variable = f"TIDEMILL_{section.upper()}_URL" if key == "url" else None
            in_file = key in data.get(section, {})
            found[f"{section}.{key}"] = variable if variable and env.get(variable) else FILE if in_file else "default"
    return found


def name_from(root: Path) -> str:
    """The name of a project that does not give itself one: its folder's, made to fit."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", root.name).strip("_")[:63] or "project"
    return f"_{name}"[:63] if name[0].isdigit() or name[0] == "-" else name


def _read(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings cannot be read: {error}.", where=str(file)) from None
    for section, values in data.items():
        if section in _SEVERAL:
            if not isinstance(values, list):
                raise SettingsError(f'"{section}" is a list of sections.', where=str(file), hint=f"[[{section}]]")
            continue
        if section in _FREE and isinstance(values, dict):
            continue
        if section not in _KNOWN:
            raise UnknownName.of("section", section, [*_KNOWN, *_FREE, *_SEVERAL], where=str(file))
        if not isinstance(values, dict):
            raise SettingsError(f'"{section}" is a section, not a value.', where=str(file), hint=f"[{section}]")
        for key in values:
            if key not in _KNOWN[section]:
                raise UnknownName.of(f"setting in [{section}]", key, _KNOWN[section], where=str(file))
    return data
