"""`DAG`, `dag` and `TaskGroup` with Airflow's arguments that ours do not have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tidemill.authoring import dag as ours
from tidemill.authoring.groups import TaskGroup as OurGroup
from tidemill.authoring.groups import task_group as our_task_group
from tidemill.authoring.params import MISSING
from tidemill.authoring.params import Param as OurParam
from tidemill.compat.airflow import reach
from tidemill.compat.airflow.assets import watched
from tidemill.compat.airflow.deadlines import deadline_words
from tidemill.compat.airflow.listeners import events_of_runs, heard_of_run
from tidemill.compat.airflow.timetables import PartitionedAtRuntime, schedule_of, zone_of
from tidemill.model.batch import Interval
from tidemill.model.definition import Definition
from tidemill.plan.assets import tells
from tidemill.plan.partitions import PARTITION_KEY

#: Accepted, and not heeded: how Airflow's own pages and parser show and keep a DAG.
UNUSED = frozenset({
    "access_control", "auto_register", "dag_display_name", "default_view", "disable_bundle_versioning",
    "full_filepath", "jinja_environment_kwargs", "orientation", "owner_links", "rerun_with_latest_version",
    "sla_miss_callback", "template_undefined",
})  # fmt: skip
_TIME = r"^\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$"
_OF_GROUPS = frozenset({"group_display_name", "ui_fgcolor"})


class DAG(ours.DAG):
    """Tasks and their order; see `tidemill.DAG`, whose arguments it takes, too."""

    any_params = True

    def __init__(self, dag_id: str = "", description: str | None = None, schedule: Any = None, **given: Any) -> None:
        words = {ours.SYNONYMS.get(name, name): value for name, value in given.items() if name not in UNUSED}
        asked = words.pop("schedule", schedule)
        of_dags = dict(reach.project().of_dags)
        zone = of_dags.pop("timezone", None)
        words = {**of_dags, **words}
        catchup = bool(words.setdefault("catchup", False))
        words["doc"] = words.get("doc") or ""
        words = {name: value for name, value in words.items() if value is not None}
        if isinstance(asked, PartitionedAtRuntime):
            asked_for = {PARTITION_KEY: Param(None, "The partition that the run is for.", type=["null", "string"])}
            words["params"] = {**asked_for, **words.get("params", {})}
        if zone is not None:
            # Times without a zone are of Airflow's `default_timezone`, and so are schedules then.
            common = words.get("default_args") or {}
            words |= {**_placed(words, zone), "default_args": {**common, **_placed(common, zone)}}
            zone = None if words.get("start") or common.get("start_date") else zone
        zone = words.pop("zone", None) or zone_of(asked) or zone
        words |= deadline_words(words.pop("deadline")) if "deadline" in words else {}
        super().__init__(name=words.pop("name", dag_id), description=description or "", zone=zone, **words)
        self.schedule = schedule_of(asked, self.zone, self.start, self.end, catchup=catchup)
        if self.schedule.on is not None and (known := watched(self.schedule.on.assets())):
            from tidemill.compat.airflow.watching import declare_watchers

            declare_watchers(known)

    @property
    def doc_md(self) -> str:
        """What it is for."""
        return self.doc

    @doc_md.setter
    def doc_md(self, text: str | None) -> None:
        self.doc = text or ""

    @property
    def task_count(self) -> int:
        """How many tasks it has."""
        return len(self.task_dict)

    def hearers(self, event: str) -> tuple[Callable[..., Any], ...]:
        """See `tidemill.DAG.hearers`: listeners of plug-ins are among them."""
        return (*super().hearers(event), *heard_of_run(event))

    def definition(self) -> Definition:
        """See `tidemill.DAG.definition`."""
        made = super().definition()
        heard = events_of_runs(assets=tells(made))
        return replace(made, callbacks=tuple(dict.fromkeys((*made.callbacks, *heard))))

    def test(
        self,
        interval: str | datetime | Interval | None = None,
        params: Mapping[str, Any] | None = None,
        tasks: Collection[str] | None = None,
        answers: Mapping[str, Any] | None = None,
        *,
        logical_date: datetime | None = None,
        execution_date: datetime | None = None,
        run_conf: Mapping[str, Any] | None = None,
        **_options: Any,
    ) -> Any:
        """See `tidemill.DAG.test`; `logical_date` and `run_conf` are Airflow's words for the first two."""
        return super().test(interval or logical_date or execution_date, params or run_conf, tasks, answers)


def _placed(words: Mapping[str, Any], zone: str) -> dict[str, datetime]:
    """Times among arguments that have no zone, in one."""
    naive = (name for name, one in words.items() if isinstance(one, datetime) and one.tzinfo is None)
    return {name: words[name].replace(tzinfo=ZoneInfo(zone)) for name in naive}


class DagMaker(ours.DagMaker):
    """What `@dag` makes of a function."""

    made = DAG


class Param(OurParam):
    """A parameter of runs; a `format="time"` is a time of the day without a zone, as in Airflow's forms."""

    def __init__(self, default: Any = MISSING, description: str | None = None, **keywords: Any) -> None:
        if keywords.get("format") == "time":
            del keywords["format"]
            keywords.setdefault("pattern", _TIME)
        super().__init__(default, description, **keywords)


def dag(dag_id: str | Callable[..., Any] = "", **options: Any) -> Any:
    """Make a DAG by a function; see `tidemill.dag`."""
    if callable(dag_id):
        return DagMaker(dag_id, options)
    options = {name: value for name, value in options.items() if name not in UNUSED}
    return functools.partial(DagMaker, options={"dag_id": dag_id, **options} if dag_id else options)


class TaskGroup(OurGroup):
    """Tasks that belong together; see `tidemill.TaskGroup`."""

    def __init__(self, group_id: str | None, prefix_group_id: bool = True, **options: Any) -> None:
        kept = {name: value for name, value in options.items() if name not in _OF_GROUPS}
        super().__init__(group_id, prefix_group_id, **kept)


def task_group(function: Any = None, **options: Any) -> Any:
    """Make groups by a function; see `tidemill.task_group`."""
    return our_task_group(function, **{name: value for name, value in options.items() if name not in _OF_GROUPS})
