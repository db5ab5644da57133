"""Port `dbt`: reading and running dbt projects in warm processes, one for each project that this process works with."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill.adapters.dbt.environment import checked_python, packages_for
from tidemill.adapters.dbt.process import Refused, WarmProcess
from tidemill.model.dbt import DbtGraph
from tidemill.model.errors import DefinitionError, RunFailed
from tidemill.plan.code import SKIPPED, SUFFIXES
from tidemill.ports.dbt import DbtCall, DbtPlace, DbtResult, Tell
from tidemill.ports.environments import PythonEnvironments

PROJECT_FILE = "dbt_project.yml"
#: Values for the variables of a run with which a project is parsed: its graph is one for all intervals, or it is not.
STAND_INS = ("2000-01-01", "2001-02-03")
#: Warm processes at the same time in this process; each takes 130 MB.
_MOST = 2
#: Graphs that are kept.
_KEPT = 100
#: What dbt writes is no part of the project; so are its tests, which are not in a kept version of the code.
_OTHERS = SKIPPED | {"target", "logs"}
_FILE = re.compile(r"\(([^()\s]+\.(?:sql|yml|yaml|py|md|csv))\)")
_YAML = re.compile(r"Error reading [^:]+: (\S+\.ya?ml)")
_LINE = re.compile(r"\bline (\d+)")


class DbtProjects:
    """See `ports.dbt.Dbt`.

    Args:
        state: the folder for graphs and what dbt writes: `.tidemill` of the project.
        names: variables that each run gives to dbt.
        environments: in which dbt is installed.
    """

    def __init__(self, state: Path, names: tuple[str, ...], environments: PythonEnvironments) -> None:
        self._state = state
        self._names = names
        self._environments = environments
        self._warm: dict[str, WarmProcess] = {}
        self._running: WarmProcess | None = None

    # -- reading

    def graph(self, place: DbtPlace, *, timeout: float) -> DbtGraph:
        """See `ports.dbt.Dbt.graph`."""
        digest = self._digest(place)
        kept = self._state / "dbt" / "graphs" / f"{digest}.json"
        try:
            return DbtGraph.from_json(json.loads(kept.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            made = self._parsed(place, timeout)
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_name(f".{uuid.uuid4().hex}")
        new.write_text(json.dumps(made.as_json()), "utf-8")
        new.replace(kept)
        for old in sorted(kept.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
        return made

    def _parsed(self, place: DbtPlace, timeout: float) -> DbtGraph:
        folder = folder_of(place)
        python = self._python(place)
        warm = self._warm.get(self._name(python, place))
        process = warm or WarmProcess(python, folder)
        request = self._request(place, None, select=place.select, exclude=place.exclude)
        said: list[str] = []
        try:
            found = process.ask(
                request, lambda level, text: said.append(text) if level == "error" else None, timeout=timeout
            )
        except Refused as refused:
            raise _complaint(folder, str(refused)) from None
        except RunFailed:
            raise DefinitionError(
                f"dbt could not parse this project within {timeout:g} s, or ended." + "".join(f"\n{t}" for t in said),
                where=str(folder / PROJECT_FILE),
                hint="DbtProject(..., timeout=600)",
            ) from None
        finally:
            if process is not warm:
                process.close()
        return DbtGraph.from_json(found)

    def _digest(self, place: DbtPlace) -> str:
        """A hash of everything that the graph comes from, but for what a kept version of the code has not."""
        folder = next((one for one in reversed(place.folders) if (one / PROJECT_FILE).is_file()), None)
        whole = hashlib.sha256()
        options = [place.target, place.vars, place.select, place.exclude, place.packages, place.python]
        whole.update(json.dumps(options, sort_keys=True, default=str).encode())
        for name, path in _files(folder or folder_of(place)):
            whole.update(name.encode("utf-8", "surrogateescape") + hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()[:24]

    # -- running

    def run(self, place: DbtPlace, call: DbtCall, tell: Tell) -> tuple[DbtResult, ...]:
        """See `ports.dbt.Dbt.run`."""
        request = self._request(
            place, call.vars, run=call.command, nodes=call.nodes, full_refresh=call.full_refresh, threads=place.threads
        )
        self._running = self._warm_process(place)
        try:
            found = self._running.ask(request, tell)
        except Refused as refused:
            raise RunFailed(f"dbt could not begin: {refused}", where=str(folder_of(place))) from None
        finally:
            self._running = None
        results = tuple(DbtResult(**one) for one in found["results"])
        if not found["ok"] and not any(one.is_bad for one in results):
            raise RunFailed(f"dbt failed: {found['error']}", where=str(folder_of(place)))
        return results

    def stop(self) -> None:
        """See `ports.dbt.Dbt.stop`."""
        if self._running is not None:
            self._running.stop()

    def close(self) -> None:
        """See `ports.dbt.Dbt.close`."""
        for process in self._warm.values():
            process.close()
        self._warm.clear()

    def _warm_process(self, place: DbtPlace) -> WarmProcess:
        """The process for a project; the one that was not used for the longest time makes room."""
        python = self._python(place)
        key = self._name(python, place)
        process = self._warm.pop(key, None) or WarmProcess(python, folder_of(place))
        while len(self._warm) >= _MOST:
            self._warm.pop(next(iter(self._warm))).close()
        self._warm[key] = process
        return process

    def _name(self, python: Path, place: DbtPlace) -> str:
        """Of the process for a project."""
        return f"{python} {self._lanes(place)}"

    def _request(self, place: DbtPlace, run_vars: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
        parse, other = ({**dict.fromkeys(self._names, one), **_standing(place.vars, one)} for one in STAND_INS)
        return {
            "folder": str(folder_of(place)),
            "profiles": str(profiles_of(place).parent),
            "target": place.target,
            "state": str(self._lanes(place)),
            "vars": parse if run_vars is None else {**place.vars, **run_vars},
            "parse_vars": parse,
            "other_vars": other,
            "interval_names": [name for name in parse if parse[name] != other[name]],
            **more,
        }

    def _lanes(self, place: DbtPlace) -> Path:
        """Where processes of this project write to, one folder each."""
        text = json.dumps([str(folder_of(place)), place.target, str(profiles_of(place))])
        return self._state / "dbt" / hashlib.sha256(text.encode()).hexdigest()[:16]

    def _python(self, place: DbtPlace) -> Path:
        if place.python is not None:
            return checked_python(place.python)
        packages = place.packages or packages_for(profiles_of(place))
        return self._environments.having(packages, called="dbt") / "bin" / "python"


def folder_of(place: DbtPlace) -> Path:
    """Where the project is. Raises DefinitionError."""
    for folder in place.folders:
        if (folder / PROJECT_FILE).is_file():
            return folder
    raise DefinitionError(
        f'There is no dbt project in "{place.folders[0]}": it has no {PROJECT_FILE}.',
        hint='DbtProject("path/of/it"), relative to the folder of tidemill.toml',
    )


def profiles_of(place: DbtPlace) -> Path:
    """The `profiles.yml`, looked for where dbt does. Raises DefinitionError."""
    folder = folder_of(place)
    given = os.environ.get("DBT_PROFILES_DIR")
    places = [place.profiles] if place.profiles else [Path(given)] if given else [folder, Path.home() / ".dbt"]
    for one in places:
        if (one / "profiles.yml").is_file():
            return one / "profiles.yml"
    raise DefinitionError(
        f"There is no profiles.yml in {' or '.join(map(str, places))}.",
        where=str(folder / PROJECT_FILE),
        hint="put it beside dbt_project.yml, or DbtProject(..., profiles_dir=...)",
    )


def _standing(given: Mapping[str, Any], stand_in: str) -> dict[str, Any]:
    """Variables with something in the place of templates."""
    return {name: stand_in if isinstance(one, str) and "{{" in one else one for name, one in given.items()}


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _OTHERS)
        found += [(str(Path(at, name).relative_to(folder)), Path(at, name)) for name in names]
    return sorted((name, path) for name, path in found if name.endswith(SUFFIXES))


def _complaint(folder: Path, text: str) -> DefinitionError:
    """Dbt's error, with the place that it names."""
    what = "\n".join(line.rstrip() for line in text.strip().splitlines())
    file, line = _FILE.search(what), _LINE.search(what)
    named = file.group(1) if file else None
    if (yaml := _YAML.search(what)) is not None:  # named as it is within its models folder, say
        named = next((name for name, _ in _files(folder) if f"/{name}".endswith(f"/{yaml.group(1)}")), named)
    where = f"{folder / named}:{line.group(1)}" if named and line else str(folder / (named or PROJECT_FILE))
    return DefinitionError(
        f"dbt cannot parse this project: {what}",
        where=where,
        hint=f"dbt parse --project-dir {folder}",
    )
