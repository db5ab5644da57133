"""What a `meltano.yml` says of extractors and of when they run, as values.

What is not known here is an error with its line, or named in `Project.ignored`: it is about loaders and what follows
them, whose place the lake takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.singer import FromEnvironment

Lines = Mapping[tuple[str | int, ...], int]
Path = tuple[str | int, ...]

_TOP = (
    "version", "default_environment", "project_id", "project_readme", "send_anonymous_usage_stats", "plugins",
    "environments", "schedules", "jobs", "env", "include_paths", "requires_meltano", "venv", "annotations",
)  # fmt: skip
#: Of an extractor; those that say something to people, or to Meltano's own work, are taken and passed over.
_EXTRACTOR = (
    "name", "inherit_from", "pip_url", "executable", "python", "config", "select", "select_filter", "metadata",
    "settings", "env", "catalog", "load_schema",
)  # fmt: skip
_PASSED = (
    "variant", "namespace", "label", "description", "docs", "repo", "logo_url", "capabilities", "keywords", "hidden",
    "settings_group_validation", "settings_preamble", "next_steps", "usage", "maintenance_status", "quality",
    "annotations", "commands", "domain_url", "definition", "ext_repo", "executable_args", "load_schema", "extra_config",
)  # fmt: skip
_SCHEDULE = (
    "name", "interval", "cron_interval", "extractor", "loader", "transform", "job", "start_date", "env", "elt_schedule",
)  # fmt: skip
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_NOT = {"@once": "@once", "@none": None, "@manual": None}


@dataclass(frozen=True, slots=True)
class Extractor:
    """A tap as a project has it."""

    name: str
    packages: tuple[str, ...]
    line: int
    executable: str | None = None
    python: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    select: tuple[str, ...] = ()
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    catalog: str | None = None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What becomes a pipeline: extractors that run at the same times."""

    name: str
    schedule: str | None
    extractors: tuple[Extractor, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Project:
    """A project's extractors by when they run; and what is not taken over, each with its line."""

    scheduled: tuple[Scheduled, ...]
    ignored: tuple[str, ...]


def read_project(document: Any, lines: Lines, file: str, environment: str | None = None) -> Project:
    """Read a project.

    Args:
        document: the file's content.
        lines: of its members, by their paths.
        file: for errors.
        environment: one of `environments`; None: `default_environment`.

    Raises:
        DefinitionError: it is no project, or says what is not understood.
        UnknownName: a name that the file does not have.
    """
    return _Reader(document, lines, file, environment).project()


class _Reader:
    def __init__(self, document: Any, lines: Lines, file: str, environment: str | None) -> None:
        self._lines = lines
        self._file = file
        self._ignored: list[str] = []
        self._document = self._mapping(document, ())
        self._known(self._document, (), _TOP)
        self._extractors = self._plugins(self._document, ())
        self._overrides = self._environment(environment)

    def project(self) -> Project:
        """All of it."""
        scheduled: list[Scheduled] = []
        jobs = {str(job.get("name")): (job, path) for job, path in self._list(self._document, "jobs", ())}
        for job, path in jobs.values():
            self._known(job, path, ("name", "tasks", "env"))
        for schedule, path in self._list(self._document, "schedules", ()):
            scheduled.append(self._schedule(schedule, path, jobs))
        taken = {one.name for each in scheduled for one in each.extractors}
        for name, (_, path) in self._extractors.items():
            if name not in taken and "pip_url" in self._inherited(name, path):
                found = self._extractor(name, path)
                scheduled.append(Scheduled(name, None, (found,), found.line))
        for kind in self._mapping(self._document.get("plugins") or {}, ("plugins",)):
            if kind not in ("extractors", "loaders"):
                self._ignore(("plugins", kind), f"plugins of the kind {kind}")
        return Project(tuple(scheduled), tuple(self._ignored))

    # -- parts

    def _plugins(self, within: Mapping[str, Any], at: Path) -> dict[str, tuple[Mapping[str, Any], Path]]:
        plugins = self._mapping(within.get("plugins") or {}, (*at, "plugins"))
        found: dict[str, tuple[Mapping[str, Any], Path]] = {}
        for one, path in self._list(plugins, "extractors", (*at, "plugins")):
            if not one.get("name"):
                raise self._wrong("This extractor has no name.", path)
            self._known(one, path, (*_EXTRACTOR, *_PASSED), hint="schema:, state: and such are not known")
            found[str(one["name"])] = (one, path)
        return found

    def _environment(self, wanted: str | None) -> dict[str, tuple[Mapping[str, Any], Path]]:
        name = wanted or self._document.get("default_environment")
        known = {}
        for one, path in self._list(self._document, "environments", ()):
            self._known(one, path, ("name", "config", "env", "state_id_suffix", "annotations"))
            known[str(one.get("name"))] = (one, path)
        if name is None or (wanted is None and not known):
            return {}
        if name not in known:
            raise UnknownName.of("environment", str(name), known, where=self._at(("default_environment",)))
        one, path = known[str(name)]
        config = self._mapping(one.get("config") or {}, (*path, "config"))
        return self._plugins(config, (*path, "config"))

    def _inherited(self, name: str, path: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
        """What an extractor says, over what the one that it inherits from does."""
        if name not in self._extractors:
            raise UnknownName.of("extractor", name, self._extractors, where=self._at(path))
        if name in seen:
            raise self._wrong(f'"{name}" inherits from itself.', path)
        own, at = self._extractors[name]
        parent = own.get("inherit_from")
        if parent is None or (parent not in self._extractors and own.get("pip_url")):
            return dict(own)
        return _over(self._inherited(str(parent), (*at, "inherit_from"), (*seen, name)), own)

    def _extractor(self, name: str, path: Path) -> Extractor:
        given = self._inherited(name, path)
        at = self._extractors[name][1]
        if name in self._overrides:
            given = _over(given, self._overrides[name][0])
        if not given.get("pip_url"):
            raise self._wrong(
                f'Extractor "{name}" has no pip_url.', at, "Meltano would look it up in its hub: write it down here"
            )
        if given.get("select_filter"):
            self._ignore((*at, "select_filter"), f"select_filter of {name}")
        config = self._values(self._mapping(given.get("config") or {}, (*at, "config")), (*at, "config"))
        for setting in given.get("settings") or ():
            if isinstance(setting, Mapping) and setting.get("name") and setting["name"] not in config:
                variable = setting.get("env") or f"{name}_{setting['name']}".replace("-", "_").replace(".", "_").upper()
                value = setting.get("value")
                config[str(setting["name"])] = (
                    self._values(value, (*at, "settings")) if value is not None
                    else FromEnvironment(str(variable), str(setting.get("kind") or "string"))
                )  # fmt: skip
        return Extractor(
            name,
            tuple(str(given["pip_url"]).split()),
            self._line(at),
            given.get("executable"),
            None if given.get("python") is None else str(given["python"]).removeprefix("python"),
            _nested(config),
            tuple(map(str, given.get("select") or ())),
            {str(k): dict(v) for k, v in (given.get("metadata") or {}).items()},
            self._values(self._mapping(given.get("env") or {}, (*at, "env")), (*at, "env")),
            given.get("catalog"),
        )

    def _schedule(
        self, given: Mapping[str, Any], path: Path, jobs: Mapping[str, tuple[Mapping[str, Any], Path]]
    ) -> Scheduled:
        self._known(given, path, _SCHEDULE)
        if not given.get("name"):
            raise self._wrong("This schedule has no name.", path)
        interval = given.get("interval") or given.get("cron_interval")
        names = []
        if given.get("job"):
            job = str(given["job"])
            if job not in jobs:
                raise UnknownName.of("job", job, jobs, where=self._at((*path, "job")))
            for task, at in self._tasks(*jobs[job]):
                for word in task.split():
                    if word in self._extractors:
                        names.append(word)
                    elif not word.startswith("target-"):
                        self._ignore(at, f'"{word}" of job {job}')
        elif given.get("extractor"):
            names.append(str(given["extractor"]))
        if not names:
            raise self._wrong(f'Schedule "{given["name"]}" runs no extractor of this file.', path)
        if given.get("transform") not in (None, "skip"):
            self._ignore((*path, "transform"), f"transform of schedule {given['name']}")
        found = tuple(self._extractor(name, path) for name in dict.fromkeys(names))
        text = None if interval is None else _NOT.get(str(interval), str(interval))
        return Scheduled(str(given["name"]), text, found, self._line(path))

    def _tasks(self, job: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Path]]:
        tasks = job.get("tasks") or ()
        for at, task in enumerate([tasks] if isinstance(tasks, str) else tasks):
            for each in [task] if isinstance(task, str) else task:
                yield str(each), (*path, "tasks", at)

    # -- values

    def _values(self, given: Any, path: Path) -> Any:
        """Settings with variables in the place of `$NAME`."""
        if isinstance(given, Mapping):
            return {str(name): self._values(value, (*path, str(name))) for name, value in given.items()}
        if isinstance(given, list):
            return [self._values(value, (*path, at)) for at, value in enumerate(given)]
        if not isinstance(given, str):
            return given if given is None or isinstance(given, bool | int | float) else str(given)
        whole = _VARIABLE.fullmatch(given)
        if whole:
            return f"env:{whole[1] or whole[2]}"
        if _VARIABLE.search(given):
            raise self._wrong(
                f'"{given}" is put together from variables.', path, "give the whole value a variable of its own"
            )
        return given

    def _mapping(self, given: Any, path: Path) -> Mapping[str, Any]:
        if not isinstance(given, Mapping):
            raise self._wrong("Names with values are expected here.", path)
        return given

    def _list(self, within: Mapping[str, Any], name: str, path: Path) -> Sequence[tuple[Mapping[str, Any], Path]]:
        found = within.get(name) or []
        if not isinstance(found, list):
            raise self._wrong(f"{name} is a list.", (*path, name))
        return [(self._mapping(one, (*path, name, at)), (*path, name, at)) for at, one in enumerate(found)]

    # -- what is said

    def _known(self, given: Mapping[str, Any], path: Path, names: Sequence[str], hint: str | None = None) -> None:
        for name in given:
            if name not in names:
                error = UnknownName.of("setting", str(name), names, where=self._at((*path, str(name))))
                error.what = f'"{name}" is not understood here.'
                error.args = (error.what,)
                error.hint = error.hint if "did you mean" in str(error.hint) else hint or error.hint
                raise error

    def _line(self, path: Path) -> int:
        while path not in self._lines and path:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _at(self, path: Path) -> str:
        return f"{self._file}:{self._line(path)}"

    def _ignore(self, path: Path, what: str) -> None:
        self._ignored.append(f"{self._at(path)}: {what} is not taken over")

    def _wrong(self, what: str, path: Path, hint: str | None = None) -> DefinitionError:
        return DefinitionError(what, where=self._at(path), hint=hint)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One extractor's words over another's: settings by their names, all else as a whole."""
    made = {**below, **above}
    for name in ("config", "metadata", "env"):
        if isinstance(below.get(name), Mapping) and isinstance(above.get(name), Mapping):
            made[name] = {**below[name], **above[name]}
    return made


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose names have dots, as `a.b: 1`, in their places: `a: {b: 1}`."""
    made: dict[str, Any] = {}
    for name, value in config.items():
        *above, last = name.split(".")
        place = made
        for each in above:
            inner = place.setdefault(each, {})
            place = inner if isinstance(inner, dict) else place
        place[last] = value
    return made
