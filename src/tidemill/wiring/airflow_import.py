"""Moving over from Airflow: what is there, what of it is taken, and, when asked for, taking it.

    DAG files, airflow.cfg, database -> items (runs, new, there, no) -> tidemill.toml, the store, schedules and runs

What is there already stays as it is, so that doing it twice changes nothing.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidemill.adapters.airflow.settings import read_sections
from tidemill.authoring.dag import DAG
from tidemill.compat.airflow.reach import within
from tidemill.model.definition import Definition
from tidemill.model.errors import SettingsError, TidemillError, UserError
from tidemill.model.masking import GIVEN
from tidemill.model.secret import connection_name, variable_name
from tidemill.plan.airflow_move import FoundSettings, Kept, Past, PastDag, newest_of, read_settings
from tidemill.plan.dispatch import DEFAULT_POOL
from tidemill.plan.settings_text import with_patterns, with_values
from tidemill.wiring.airflow_past import take_over
from tidemill.wiring.airflow_reach import reach_of
from tidemill.wiring.connection_care import keep_secret
from tidemill.wiring.parsing import parse_once, parser_runs
from tidemill.wiring.project import declared_in, pipeline_files
from tidemill.wiring.secrets import connection_of, connections_of, secrets_of, variables_of
from tidemill.wiring.settings import FILE, Settings, find_root, load_settings, name_from

#: What becomes of an item: a DAG runs; a value is taken; it is here already; it is not taken.
RUNS, NEW, THERE, NO = "runs", "new", "there", "no"
_KEY = "AIRFLOW__CORE__FERNET_KEY"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of Airflow's, and what becomes of it.

    Args:
        kind: "dag", "file", "connection", "variable", "pool", "setting".
        name: its name; of a file, its path in the project.
        state: one of `RUNS`, `NEW`, `THERE`, `NO`.
        said: why, or how.
        place: `file:line`; empty: none.
    """

    kind: str
    name: str
    state: str
    said: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """What was found, and done.

    Args:
        root: the project's folder.
        items: each thing that was found.
        version: of Airflow, as its database tells; None: there was none, or it is not known.
        notes: what else there is to say.
        wrote: whether anything was changed.
        runs: of the past, that were taken over.
    """

    root: Path
    items: tuple[Item, ...]
    version: str | None = None
    notes: tuple[str, ...] = ()
    wrote: bool = False
    runs: int = 0


@dataclass(frozen=True, slots=True)
class _Source:
    dags: Path | None = None
    found: FoundSettings | None = None
    url: str | None = None


def import_airflow(given: str, start: Path | None, *, write: bool, most: int) -> Imported:
    """Look at an installation of Airflow, and take over what can be.

    Args:
        given: a folder of DAGs, `AIRFLOW_HOME`, or the address of the metadata database.
        start: the project's folder, or one below it; None: the current one.
        write: change the project; else only tell.
        most: newest runs of each DAG that are taken over.

    Raises:
        UserError, SettingsError: this is nothing of Airflow's, or there is no project that it could go into.
        Unreachable: the database does not answer.
    """
    source = _source(given)
    settings = _settings(source, start)
    if write and parser_runs(settings):
        raise UserError("The project is running.", hint="stop tidemill up, import, and start it again")
    past = _read_past(source, settings, most) if source.url else None
    after, lines = _after(settings, source, past)
    values = [*_values(settings, past)] if past else []
    notes = [*_told_of(source, past)]
    items = [*_settings_items(settings, source, past), *(item for item, _ in values)]
    if write:
        _write_values(settings, values)
        _write_file(settings.root, lines, after)
        after = load_settings(settings.root)
    items += _dag_items(after, source, past, {item.name: kept for item, kept in values if item.state == NEW})
    runs = 0
    if write and past is not None:
        parse_once(after)
        runs = take_over(after, past)
    return Imported(settings.root, tuple(items), past.version if past else None, tuple(notes), write, runs)


# What is there --------------------------------------------------------------------------------------------------------


def _source(given: str) -> _Source:
    if "://" in given:
        return _Source(url=given)
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(
            f'There is no folder "{given}".', hint="a folder of DAGs, AIRFLOW_HOME, or sqlite:////path/airflow.db"
        )
    config, database = folder / "airflow.cfg", folder / "airflow.db"
    found = read_settings(read_sections(config), str(config)) if config.is_file() else None
    dags = folder
    if found is not None or database.is_file():
        # The folder may have been copied from elsewhere: the one beside the settings is meant then.
        named = Path(found.dags) if found is not None and found.dags else folder / "dags"
        dags = named if named.is_dir() else folder / "dags"
        if not dags.is_dir():
            raise UserError(f'There is no folder of DAGs "{named}".', where=str(config))
    return _Source(dags.resolve(), found, f"sqlite:///{database}" if database.is_file() else None)


def _settings(source: _Source, start: Path | None) -> Settings:
    """The project's settings; those of a new one beside the folder of DAGs where there is none."""
    given = start or (Path(os.environ["TIDEMILL_PROJECT"]) if os.environ.get("TIDEMILL_PROJECT") else Path.cwd())
    root = find_root(given.resolve())
    if root is None and source.dags is None:
        hint = "tidemill init my_project, or --project FOLDER"
        raise UserError(f'There is no project at or above "{given.resolve()}".', hint=hint)
    settings = load_settings(root) if root is not None else None
    if settings is None:
        assert source.dags is not None
        settings = replace(load_settings(source.dags.parent), pipelines=())
    if source.dags is not None and not source.dags.is_relative_to(settings.root):
        raise UserError(
            f"The folder of DAGs is not in the project, which is {settings.root}.",
            where=str(source.dags),
            hint=f"move it there, or call this in {source.dags.parent}, where a project is made then",
        )
    return settings


def _read_past(source: _Source, settings: Settings, most: int) -> Past:
    from tidemill.adapters.airflow.database import is_key, read_database

    key = os.environ.get(_KEY) or (source.found.fernet_key if source.found else "")
    if key and not os.environ.get(_KEY) and not is_key(key):
        key = ""
    GIVEN.add(key)
    assert source.url is not None
    return read_database(source.url, key, most)


def _told_of(source: _Source, past: Past | None) -> Iterator[str]:
    if past is not None and past.version is None:
        yield (f"the database has revision {past.revision}, which is none of Airflow 2.6 to 3.3: "
               "what is read is what these have")  # fmt: skip
    if source.found is not None:
        for section, names in source.found.told.items():
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            yield f"airflow.cfg [{section}] means nothing here: {shown}"
        if past is None:
            yield "there is no airflow.db beside airflow.cfg: tidemill import airflow DB-URL reads another database"


# What becomes of it ---------------------------------------------------------------------------------------------------


def _after(settings: Settings, source: _Source, past: Past | None) -> tuple[Settings, dict[str, dict[str, Any]]]:
    """The settings as they are to be, and what must be added to the file for that, by section."""
    lines: dict[str, dict[str, Any]] = {}
    after = settings
    pattern = _pattern(settings, source)
    if pattern is not None and pattern not in settings.pipelines:
        after = replace(after, pipelines=(*settings.pipelines, pattern))
        lines["project"] = {"pipelines": pattern}
    written = _written(settings.root)
    for section, name, value in _wanted(source, past):
        if name not in written.get(section, {}):
            lines.setdefault(section, {})[name] = value
            if section == "airflow":
                after = replace(after, airflow=replace(after.airflow, **{name: value}))
            elif section == "pools":
                after = replace(after, pools={**after.pools, name: value})
    return after, lines


def _pattern(settings: Settings, source: _Source) -> str | None:
    if source.dags is None:
        return None
    below = source.dags.relative_to(settings.root).as_posix()
    return "**/*.py" if below == "." else f"{below}/**/*.py"


def _wanted(source: _Source, past: Past | None) -> Iterator[tuple[str, str, Any]]:
    """What the file of settings should say: section, key, value."""
    if source.found is not None:
        for name, value in source.found.taken.items():
            yield ("scheduler" if name == "workers" else "airflow"), name, value
    if past is not None:
        told = source.found is not None and "ignore" in source.found.taken
        if past.version is not None and past.version < "3" and not told:
            yield "airflow", "ignore", "regexp"
        for name, slots in past.pools.items():
            yield "pools", name, slots


def _written(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / FILE).read_text("utf-8")) if (root / FILE).is_file() else {}


def _settings_items(settings: Settings, source: _Source, past: Past | None) -> Iterator[Item]:
    written = _written(settings.root)
    for section, name, value in _wanted(source, past):
        there = written.get(section, {})
        state = NEW if name not in there else THERE
        said = f"{value}" if state == NEW or there[name] == value else f"{there[name]} here, {value} there"
        yield Item("pool" if section == "pools" else "setting", name if section == "pools" else f"{section}.{name}",
                   state, said)  # fmt: skip


def _values(settings: Settings, past: Past) -> Iterator[tuple[Item, Kept]]:
    """Connections and variables, each with what becomes of it."""
    secrets = secrets_of(settings)
    for kind, several, named in (
        ("connection", past.connections, connection_name),
        ("variable", past.variables, variable_name),
    ):
        for kept in several:
            try:
                known = secrets.get(named(kept.name))
            except SettingsError as error:
                yield Item(kind, kept.name, NO, f"{error.what} {error.hint or ''}".strip()), kept
                continue
            if known is not None:
                same = known.reveal() == kept.text
                yield Item(kind, kept.name, THERE, "" if same else f"another one, in {known.origin}, stays"), kept
            elif kept.text is None:
                yield Item(kind, kept.name, NO, kept.trouble), kept
            else:
                yield Item(kind, kept.name, NEW), kept


class _WithNew:
    """Connections or variables as they will be: files may ask for them when they are loaded."""

    def __init__(self, known: Any, new: Mapping[str, Kept], *, connections: bool) -> None:
        self._known, self._new, self._connections = known, new, connections

    def get(self, name: str) -> Any:
        """One of them."""
        kept = self._new.get(name)
        if kept is None or kept.text is None:
            return self._known.get(name)
        return connection_of(name, kept.text) if self._connections else kept.text


def _dag_items(after: Settings, source: _Source, past: Past | None, new: Mapping[str, Kept]) -> Iterator[Item]:
    """DAGs and files that cannot be read."""
    pattern = _pattern(after, source)
    looked_at = after if pattern is None else replace(after, pipelines=(pattern,))
    connections = _WithNew(connections_of(after), new, connections=True)
    variables = _WithNew(variables_of(after), new, connections=False)
    reach = replace(reach_of(after), connections=connections, variables=variables)
    known = dict(past.dags) if past is not None else {}
    pools = {DEFAULT_POOL, *after.pools}
    with within(reach):
        for file in pipeline_files(looked_at):
            path = file.relative_to(after.root).as_posix()
            try:
                made = [one for one in declared_in(looked_at, file).values() if isinstance(one, DAG)]
                definitions = [(dag, dag.definition()) for dag in made]
            except TidemillError as error:
                said = " ".join(filter(None, [error.what, error.hint]))
                yield Item("file", path, NO, said, _short(error.where, after))
                continue
            for dag, definition in definitions:
                if pattern is None and dag.name not in known:
                    continue
                yield Item("dag", dag.name, RUNS, _goes_on(definition, known.pop(dag.name, None), past),
                           _short(definition.place, after))  # fmt: skip
                yield from _missing(dag, definition, connections, pools, after)
    for name in sorted(known):
        yield Item("dag", name, NO, "no file here makes it")


def _goes_on(definition: Definition, dag: PastDag | None, past: Past | None) -> str:
    if past is None or (definition.schedule.timetable is None and not definition.schedule.intervals):
        return definition.schedule.text
    newest = newest_of(definition, dag.until) if dag is not None and dag.until is not None else None
    said = f"goes on after {newest}" if newest is not None else "no run has ended there"
    if newest is None and definition.catchup:
        said += ", so it begins at its start"
    if dag is not None and dag.open:
        said += f"; {dag.open} not ended there"
    return said + ("; paused" if dag is not None and dag.paused else "")


def _missing(dag: DAG, definition: Definition, connections: Any, pools: set[str], after: Settings) -> Iterator[Item]:
    """Connections and pools that tasks name and that are not here."""
    for task_id, task in dag.task_dict.items():
        place = _short(definition.tasks[task_id].place if task_id in definition.tasks else definition.place, after)
        for name, value in vars(task).items():
            if name.endswith("conn_id") and isinstance(value, str) and value and "{" not in value:
                try:
                    there = connections.get(value) is not None
                except SettingsError:
                    there = False
                if not there:
                    yield Item("connection", value, NO, f"{dag.name}.{task_id} names it, and it is not here", place)
        node = definition.graph.nodes.get(task_id)
        if node is not None and node.pool not in pools:
            yield Item("pool", node.pool, NO, f"{dag.name}.{task_id} waits for it, and it is not here", place)


def _short(place: str | None, after: Settings) -> str:
    return (place or "").replace(f"{after.root}{os.sep}", "")


# Taking it ------------------------------------------------------------------------------------------------------------


def _write_values(settings: Settings, values: list[tuple[Item, Kept]]) -> None:
    for item, kept in values:
        if item.state == NEW and kept.text is not None:
            named = connection_name if item.kind == "connection" else variable_name
            keep_secret(settings, named(item.name), kept.text)


def _write_file(root: Path, lines: Mapping[str, Mapping[str, Any]], after: Settings) -> None:
    """Add to `tidemill.toml`; nothing is written unless the result says just what it should."""
    path = root / FILE
    text = path.read_text("utf-8") if path.is_file() else ""
    if not lines and text:
        return
    meant = tomllib.loads(text)
    made = text if text else with_values("", "project", {"name": name_from(root)})
    meant.setdefault("project", {}).update({} if text else {"name": name_from(root)})
    for section, values in lines.items():
        if section == "project":
            made = with_patterns(made, after.pipelines[:-1], after.pipelines[-1])
            meant["project"]["pipelines"] = list(after.pipelines)
        else:
            made = with_values(made, section, values)
            meant.setdefault(section, {}).update(values)
    try:
        well = tomllib.loads(made) == meant
    except tomllib.TOMLDecodeError:
        well = False
    if not well:
        added = {
            section: [f"{name} = {value!r}" for name, value in values.items()] for section, values in lines.items()
        }
        said = "; ".join(f"[{section}] {', '.join(values)}" for section, values in added.items())
        raise SettingsError("The file cannot be added to.", where=str(path), hint=f"write yourself: {said}")
    beside = path.with_suffix(".toml.new")
    beside.write_text(made, "utf-8")
    beside.replace(path)
