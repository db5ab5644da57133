"""dbt projects as they are: `DbtProject("dbt/shop")` becomes a group of tasks, one for each model, seed and snapshot.

A node's tests are a task of their own right after it, and before what is made from it: a failing test shows as what it
is, holds back what would have been made from bad rows, and is tried again without its model being made again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tidemill.authoring import registry
from tidemill.authoring.arguments import as_length
from tidemill.authoring.dag import DAG
from tidemill.authoring.groups import TaskGroup
from tidemill.authoring.place import here
from tidemill.authoring.task import BaseOperator, accepted_arguments
from tidemill.authoring.task_context import DBT_VARS, TaskContext
from tidemill.model.dbt import DbtGraph
from tidemill.model.errors import CheckFailed, DefinitionError, RunFailed, SettingsError, TidemillError, UnknownName
from tidemill.plan.dbt import DbtTask, tasks_of
from tidemill.ports.dbt import Dbt, DbtCall, DbtPlace, DbtResult

#: Lines of compiled SQL that an error shows.
_SHOWN = 40
_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING}


class DbtProject(TaskGroup):
    """A dbt project as a group of tasks, with the edges of its manifest.

    Args:
        path: its folder, relative to the project.
        target: of its profile.
        profiles_dir: the folder of `profiles.yml`, relative to the project; by default that of the dbt project, else
            where dbt looks for it.
        select, exclude: which of its nodes, in dbt's words: `tag:nightly`, `+orders`.
        vars: dbt's variables; texts are templates. Those of the run (`ds`, `data_interval_start` ...) are there too.
        tests: run its tests.
        freshness: ask sources how old they are, where they say how old they may be.
        full_refresh: make incremental models anew; True, or a template such as `{{ params.full_refresh }}`.
        group_id: by default the dbt project's name.
        packages: what to install for it, as pip takes it; by default dbt-core before 1.12 and the adapters that its
            profiles name, in an environment below `.tidemill/venvs`.
        python: an interpreter that has dbt; nothing is installed then.
        threads: of dbt within one task; by default the profile's. A task of tests makes use of several.
        timeout: of parsing it, seconds or a timedelta.
        dag: the DAG; left out, the one whose `with` block this is in.
        options: those of every task: `retries`, `pool`, `queue`, `execution_timeout` ...

    Raises:
        DefinitionError: there is no such project, or dbt cannot parse it.
        UnknownName: there is no such argument.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        target: str | None = None,
        profiles_dir: str | Path | None = None,
        select: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        vars: Mapping[str, Any] | None = None,
        tests: bool = True,
        freshness: bool = False,
        full_refresh: bool | str = False,
        group_id: str | None = None,
        packages: Sequence[str] = (),
        python: str | None = None,
        threads: int | None = None,
        timeout: float | timedelta = 300.0,
        dag: DAG | None = None,
        **options: Any,
    ) -> None:
        known = accepted_arguments(BaseOperator) - {"task_id", "dag", "inlets", "outlets", "doc", "doc_md"}
        for name in options:
            if name not in known:
                raise UnknownName.of("argument of DbtProject", name, [*known, *_OWN], where=here())
        roots, dbt = registry.dbt_of(here())
        found = DbtPlace(
            folders=tuple(root / path for root in roots),
            target=target,
            profiles=roots[0] / profiles_dir if profiles_dir is not None else None,
            vars=dict(vars or {}),
            select=_words(select),
            exclude=_words(exclude),
            packages=tuple(packages),
            python=python,
            threads=threads,
        )
        self.graph: DbtGraph = _graph(dbt, found, as_length(timeout))
        super().__init__(group_id or self.graph.project, dag=dag, tooltip=f"dbt: {path}", default_args=options)
        self.project = found
        folder = next(one for one in found.folders if one.is_dir())
        made: dict[str, BaseOperator] = {}
        with self:
            for task in tasks_of(self.graph, tests=tests, freshness=freshness):
                made[task.label] = self._task(task, folder, full_refresh)
                for before in task.after:
                    made[before].link(made[task.label])

    def _task(self, task: DbtTask, folder: Path, full_refresh: bool | str) -> DbtOperator:
        node = self.graph.nodes[task.shown]
        made = DbtOperator(
            task_id=task.label,
            project=self.project,
            command=task.command,
            nodes=task.nodes,
            full_refresh=full_refresh,
            dag=self.dag,
            inlets=task.reads,
            outlets=task.writes,
            doc=node.doc,
        )
        # Where the node is written, and not the line by which all of them were made.
        made.place = f"{folder / node.file}:{node.line}"
        return made


_OWN = ("target", "profiles_dir", "select", "exclude", "vars", "tests", "freshness", "full_refresh", "group_id",
        "packages", "python", "threads", "timeout", "dag")  # fmt: skip


def _words(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else tuple(given.split()) if isinstance(given, str) else tuple(given)


def _graph(dbt: Dbt, place: DbtPlace, timeout: timedelta) -> DbtGraph:
    try:
        found = dbt.graph(place, timeout=timeout.total_seconds())
    except TidemillError as error:
        error.where = error.where or here()
        raise
    if not any(node.chosen for node in found.nodes.values()):
        raise DefinitionError("Nothing of this dbt project is selected.", where=here(), hint="another select=")
    return found


class DbtOperator(BaseOperator):
    """One dbt command on nodes of a project; `DbtProject` makes these.

    What it returns says how many rows were written and where the SQL is; of tests, how each ended.
    """

    kind = "dbt"
    template_fields: Sequence[str] = ("vars", "full_refresh")
    _dbt: Dbt | None = None

    def __init__(
        self,
        *,
        project: DbtPlace,
        command: str,
        nodes: Sequence[str],
        full_refresh: bool | str = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.project = project
        self.command = command
        self.nodes = tuple(nodes)
        self.vars = dict(project.vars)
        self.full_refresh = full_refresh

    @property
    def task_type(self) -> str:
        """The kind of task, as people see it: `dbt_run`, `dbt_seed`, `dbt_test`."""
        return "dbt_" + self.command.rpartition(" ")[2]

    def execute(self, context: TaskContext) -> dict[str, Any]:
        """Run it in the warm process."""
        self._dbt = dbt = context.services.dbt
        if dbt is None:
            raise SettingsError("dbt cannot be run here.", where=self.place, hint="tidemill up, or dag.test()")
        given = {**_run_vars(context), **self.vars}
        call = DbtCall(self.command, self.nodes, given, str(self.full_refresh).lower() in ("true", "1", "yes"))
        results = dbt.run(self.project, call, lambda level, text: self.log.log(_LEVELS.get(level, 20), "%s", text))
        bad = [one for one in results if one.is_bad]
        for one in results:
            if one.compiled_path:
                self.log.info("compiled SQL: %s", one.compiled_path)
        if bad:
            raise self._failure(bad, len(results))
        return self._made(results, context)

    def on_kill(self) -> None:
        """End the process: the database then rolls back what it was doing."""
        if self._dbt is not None:
            self._dbt.stop()

    def _made(self, results: Sequence[DbtResult], context: TaskContext) -> dict[str, Any]:
        if self.command in ("test", "source freshness"):
            return {_short(one.id): one.status for one in results}
        written = [one.rows for one in results if one.rows is not None and one.rows >= 0]
        if written:
            context.rows = sum(written)
            self.log.info("wrote %s rows", f"{context.rows:,}")
        one = results[0] if results else None
        return {
            "status": one.status if one else "no-op",
            "rows": context.rows,
            "seconds": round(sum(one.seconds for one in results), 3),
            "compiled_path": one.compiled_path if one else None,
        }

    def _failure(self, bad: Sequence[DbtResult], of: int) -> RunFailed:
        texts = [f"{_short(one.id)} ({one.file}): {(one.message or one.status).strip()}" for one in bad]
        sql = next((one.compiled for one in bad if one.compiled), None)
        lines = sql.strip().splitlines() if sql else []
        shown = "".join(f"\n    {line}" for line in lines[:_SHOWN]) + ("\n    ..." if len(lines) > _SHOWN else "")
        code = f"\n  compiled SQL:{shown}" if lines else ""
        if self.command == "test":
            told = "".join(f"\n{text}" for text in texts)
            return CheckFailed(f"{len(bad)} of {of} dbt tests failed:{told}{code}", where=self.place)
        return RunFailed("\n".join(texts) + code, where=self.place)


def _short(id_: str) -> str:
    """`unique_orders_id` of `test.shop.unique_orders_id.1360ecc70e`."""
    parts = id_.split(".")
    return parts[2] if parts[0] == "test" and len(parts) > 2 else parts[-1]


def _run_vars(context: TaskContext) -> dict[str, str]:
    """The variables of a run as dbt takes them; a run without an interval has only those that it has."""
    found = {name: context[name] for name in DBT_VARS if name in context}
    return {
        name: one.isoformat() if isinstance(one, datetime) else str(one)
        for name, one in found.items()
        if one is not None
    }
