"""Airflow's names for DAG files: what is served, when, and what is said of the rest."""

import importlib
from datetime import UTC, datetime, timedelta

import pytest

from tidemill.compat.airflow.finder import NotServed, serving
from tidemill.compat.airflow.names import SERVED
from tidemill.model.batch import Interval
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.wiring.trials import try_dag

NIGHTLY = """
from datetime import datetime, timedelta
from airflow import DAG
from airflow.models.baseoperator import chain
from airflow.operators.python import PythonOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.utils.task_group import TaskGroup

def told(context): pass

def count(ds, **kwargs):
    from airflow.exceptions import AirflowSkipException
    if kwargs["params"]["skip"]:
        raise AirflowSkipException("not today")
    return ds

with DAG(
    "nightly", schedule_interval="30 1 * * *", start_date=datetime(2026, 1, 1), catchup=False, tags=["a"],
    default_args={"owner": "me", "retries": 2, "email": ["a@b"], "email_on_failure": False, "depends_on_past": False},
    params={"skip": False}, max_active_runs=1, dagrun_timeout=timedelta(hours=1), doc_md="# Counts",
    on_failure_callback=told, dag_display_name="Nightly", orientation="LR", is_paused_upon_creation=True,
) as dag:
    counted = PythonOperator(task_id="count", python_callable=count, task_display_name="Count", pool="default_pool")
    with TaskGroup("after", tooltip="t", ui_fgcolor="#000"):
        tell = BashOperator(task_id="tell", bash_command="echo {{ logical_date.add(days=1).to_date_string() }}",
                            executor_config={"x": 1}, pre_execute=lambda context: context["ti"].xcom_push("pre", 1),
                            post_execute=lambda context, result: context["ti"].xcom_push("post", result))
    chain(counted, tell)
"""


def test_every_name_that_is_listed_is_there():
    missing = []
    for module, names in SERVED.items():
        for name, target in names.items():
            place, _, attribute = target.partition(":")
            if attribute and not hasattr(importlib.import_module(place), attribute):
                missing.append(f"{module}.{name}")
    assert missing == []


def test_a_dag_file_of_airflow_2_says_the_same_here(read):
    dag = read(NIGHTLY)["nightly"]
    made = dag.definition()
    assert (made.schedule.text, made.max_active_runs, made.run_timeout) == ("30 1 * * *", 1, timedelta(hours=1))
    assert (made.tags, made.owner, made.doc, made.paused) == (("a",), "me", "# Counts", True)
    assert made.callbacks == ("failure",)
    assert made.graph.nodes["count"].retry.times == 2
    assert made.graph.nodes["after.tell"].upstream == ("count",)
    assert made.tasks["count"].operator == "python"


def test_its_tasks_run_and_have_airflows_words(read):
    trial = try_dag(read(NIGHTLY)["nightly"], "2026-01-15")
    assert trial.states == {"count": "success", "after.tell": "success"}
    assert trial.result("after.tell") == "2026-01-15"
    assert (trial.result("after.tell", "pre"), trial.result("after.tell", "post")) == (1, "2026-01-15")
    skipped = try_dag(read(NIGHTLY)["nightly"], "2026-01-15", {"skip": True})
    assert skipped.states == {"count": "skipped", "after.tell": "skipped"}


def test_a_name_that_is_not_served_is_told_with_its_line_and_what_to_use(read):
    with pytest.raises(NotServed) as caught:
        read("import airflow\n\nfrom airflow.sdk import DAG, VariableInterval\n")
    assert caught.value.where.endswith("a_dag.py:3")
    assert '"airflow.sdk.VariableInterval"' in caught.value.what
    assert caught.value.hint == "docs/airflow.md says what runs unchanged, and what to use instead"
    with pytest.raises(NotServed) as caught:
        read("from airflow.sdk import DAG\nfrom airflow.providers.amazon.aws.operators.s3 import S3ListOperator\n")
    assert caught.value.where.endswith("a_dag.py:2")
    with pytest.raises(NotServed) as caught:
        read("from airflow.utils.helpers import DAG\n")
    assert caught.value.hint == "from airflow import DAG"
    with pytest.raises(NotServed) as caught:
        read("from airflow.sdk import task\n\n@task.docker(image='x')\ndef f(): ...\n")
    assert caught.value.where.endswith("a_dag.py:3")


def test_files_of_before_airflow_2_find_their_modules(read):
    text = """
from datetime import datetime
from airflow import DAG
from airflow.macros import ds_add
from airflow.operators.bash_operator import BashOperator
from airflow.operators.dummy_operator import DummyOperator
from airflow.operators.email_operator import EmailOperator
from airflow.operators.python_operator import PythonOperator
with DAG("old", schedule_interval="@daily", start_date=datetime(2026, 1, 1)) as dag:
    day = PythonOperator(task_id="day", python_callable=lambda ds, **_: ds_add(ds, 1), provide_context=True)
    DummyOperator(task_id="begin") >> day >> BashOperator(task_id="tell", bash_command="true")
    EmailOperator(task_id="mail", to="me@example.org", subject="s", html_content="h", files=None, mime_charset="utf-8")
"""
    dag = read(text)["old"]
    trial = try_dag(dag, "2026-01-15", tasks=["begin", "day", "tell"])
    assert trial.result("day") == "2026-01-16"
    assert dag.get_task("mail").html_content == "h"


def test_a_file_may_try_one_name_after_another(read):
    text = """
try:
    from airflow.sdk import Nothing as Operator
except ImportError:
    from airflow.operators.dummy import DummyOperator as Operator
import airflow
from airflow import DAG
dag = DAG("tries", schedule=None)
Operator(task_id="a", dag=dag)
"""
    assert read(text)["tries"].task_ids == ["a"]


def test_an_argument_that_nobody_knows_is_told_with_its_line(read):
    text = "from airflow import DAG\nfrom airflow.operators.bash import BashOperator\nwith DAG('d', schedule=None):\n"
    with pytest.raises(TidemillError) as caught:
        read(text + "    BashOperator(task_id='a', bash_comand='x', bash_command='y')\n")
    assert caught.value.where.endswith("a_dag.py:4")
    assert "bash_command" in caught.value.hint


SCHEDULES = """
from datetime import timedelta
import pendulum
from airflow.sdk import (
    DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, CronDataIntervalTimetable, DeltaTriggerTimetable,
    EventsTimetable, MultipleCronTriggerTimetable,
)
from airflow.timetables.simple import ContinuousTimetable, NullTimetable, OnceTimetable
from airflow.timetables.base import DagRunInfo, Timetable

class Mondays(Timetable):
    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        last = last_automated_data_interval
        start = last.end if last else restriction.earliest.next(pendulum.MONDAY)
        return DagRunInfo.interval(start=start, end=start.add(days=7)) if start.year < 2031 else None

start = pendulum.datetime(2026, 1, 1, tz="Europe/Oslo")
a, b = Asset("s3://x/a"), Asset(name="b", uri="s3://x/b")
given = {
    "cron": CronTriggerTimetable("0 6 * * *", timezone="Europe/Copenhagen"), "steps": timedelta(hours=2),
    "interval": CronDataIntervalTimetable("@hourly", timezone="UTC"), "delta": DeltaTriggerTimetable(timedelta(days=1)),
    "crons": MultipleCronTriggerTimetable("0 6 * * *", "0 18 * * *", timezone="UTC"), "once": OnceTimetable(),
    "always": ContinuousTimetable(), "never": NullTimetable(), "assets": [a, b], "either": a | (b & Asset("c")),
    "both": AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 1 * * *", timezone="UTC"), assets=a & b),
    "mondays": Mondays(), "events": EventsTimetable(event_dates=[pendulum.datetime(2026, 2, 1)]),
}
for name, schedule in given.items():
    DAG(name, schedule=schedule, start_date=start)
"""


def test_schedules_and_timetables_become_ours(read):
    made = {name: dag.definition() for name, dag in read(SCHEDULES).items()}
    told = {name: one.schedule.text for name, one in made.items()}
    assert told | {"mondays": "", "events": ""} == {
        "cron": "0 6 * * *", "steps": "2:00:00", "interval": "@hourly", "delta": "1 day, 0:00:00",
        "crons": "0 6 * * * | 0 18 * * *",
        "once": "@once", "always": "@continuous", "never": "", "assets": "s3://x/a and b",
        "either": "s3://x/a or (b and c)", "both": "0 1 * * * and s3://x/a and b", "mondays": "",
        "events": "",
    }  # fmt: skip
    assert (made["cron"].zone, made["steps"].zone) == ("Europe/Copenhagen", "Europe/Oslo")
    both = made["both"].schedule
    assert both.timetable is not None
    assert sorted(both.on.assets()) == ["b", "s3://x/a"]
    first, second = made["mondays"].schedule.intervals[:2]
    assert first.start.weekday() == 0
    assert (first.end, second.end - second.start) == (second.start, timedelta(days=7))
    assert made["events"].schedule.intervals[0].start == datetime(2026, 2, 1, tzinfo=UTC)


DECORATED = """
import pendulum
from airflow.decorators import dag, task, task_group
from airflow.exceptions import AirflowFailException
from airflow.sdk import get_current_context, PokeReturnValue, Param, chain_linear, Label

@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1), params={"at": Param("12:30", type="string",
     format="time")}, access_control={})
def words():
    @task
    async def waits(n):
        return n + 1
    @task(task_display_name="x", executor_config={})
    def numbers():
        return [1, 2]
    @task.branch
    def choose():
        return "left"
    @task.run_if(lambda context: context["params"]["at"] == "never")
    @task
    def left():
        return 1
    @task.skip_if(lambda context: (False, "never"))
    @task
    def right():
        raise AirflowFailException("no")
    @task.sensor(poke_interval=1, timeout=5, mode="reschedule")
    def wait() -> PokeReturnValue:
        return PokeReturnValue(is_done=True, xcom_value=get_current_context()["ds"])
    @task_group(group_display_name="G")
    def group(n):
        return waits(n)
    @task(trigger_rule="all_done", retries=3, multiple_outputs=True)
    def end(of) -> dict:
        return {"sum": sum(of)}
    made = end(group.expand(n=numbers()))
    choose() >> Label("by name") >> [left(), right()]
    chain_linear(wait(), made)
words()
"""


def test_decorated_functions_run(read):
    day = datetime(2026, 1, 15, tzinfo=UTC)
    trial = try_dag(read(DECORATED)["words"], Interval(day, day + timedelta(days=1)))
    assert trial.errors == {}
    assert trial.result("end", "sum") == 5
    assert trial.result("wait") == "2026-01-15"
    assert (trial.states["left"], trial.states["right"]) == ("skipped", "skipped")


def test_two_assets_are_the_same_by_name_and_address(read):
    with serving():
        asset = importlib.import_module("airflow.sdk").Asset
        assert asset("a") == asset(name="a", uri="a")
        assert asset("a") != asset("a", "s3://a")
        with pytest.raises(DefinitionError, match="needs a name"):
            asset()


STORES = """
from airflow.sdk import DAG, Asset, AssetAlias, task
A, B = Asset("s3://x/a"), Asset("s3://x/b")
with DAG("d", schedule=None):
    @task(inlets=[A], outlets=[AssetAlias("x")])
    async def only(*, asset_state_store=None):
        await asset_state_store.aset("n", 1)
        found = [await asset_state_store.aget("n"), asset_state_store[A].get("n")]
        await asset_state_store.adelete("n")
        await asset_state_store.aclear()
        return [*found, asset_state_store.get("n", "gone")]
    @task(inlets=[A])
    def nothing(*, asset_state_store=None):
        asset_state_store.set("n", None)
    @task(inlets=[A], outlets=[B])
    def which(*, asset_state_store=None):
        asset_state_store.get("n")
    only(), nothing(), which()
"""


def test_what_is_kept_of_assets_says_of_which(read):
    trial = try_dag(read(STORES)["d"])
    assert trial.result("only") == [1, 1, "gone"]
    assert '"n" of "s3://x/a" cannot be None' in trial.errors["nothing"]
    assert "a_dag.py:14" in trial.errors["nothing"]
    assert '"which" has 2 inlets and outlets' in trial.errors["which"]


KINDS = """
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

class TellOperator(BaseOperator):
    template_fields = ("text",)
    def __init__(self, *, text, loud=False, **kwargs):
        super().__init__(**kwargs)
        self.text, self.loud = text, loud
    def execute(self, context):
        return self.text.upper() if self.loud else self.text

class _Told(DecoratedOperator, TellOperator):
    template_fields = (*DecoratedOperator.template_fields, *TellOperator.template_fields)
    custom_operator_name = "@task.tell"
    def __init__(self, *, python_callable, op_args=None, op_kwargs=None, **kwargs):
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, text="", **kwargs)
    def execute(self, context):
        self.text = self.python_callable(*self.op_args, **self.op_kwargs)
        self.render_template_fields(context)
        return super().execute(context)

def tell(function=None, **kwargs):
    return task_decorator_factory(python_callable=function, decorated_operator_class=_Told, **kwargs)

with DAG("d", schedule=None):
    @tell
    def quiet(): return "on {{ run_id }}"
    @tell(loud=True, retries=1)
    def loud(word, more="{{ data }}"): return word
    loud.partial(more="x").expand(word=[quiet(), "{{ run_id }}"])
    tell(lambda: "{{ nowhere }}", task_id="wrong")()
"""


def test_a_decorator_of_ones_own_has_its_operator_behind_it(read):
    trial = try_dag(read(KINDS)["d"])
    assert trial.result("quiet") == "on test"
    assert trial.result("loud") == ["ON TEST", "TEST"]
    assert "nowhere" in trial.errors["wrong"]
    with pytest.raises(TidemillError, match=r"There is no argument of @task\.tell"):
        read(KINDS.replace("loud=True", "lowd=True"))


WAITS = """
from datetime import timedelta
from airflow.sdk import DAG, BaseOperator, ExceptionRetryPolicy, RetryAction, RetryRule, task
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

class Counts(BaseTrigger):
    def __init__(self, most):
        super().__init__()
        self.most = most
    async def run(self):
        for n in range(self.most):
            yield TriggerEvent({"seen": n + 1})

class Never(BaseTrigger):
    async def run(self):
        import asyncio
        await asyncio.Event().wait()
        yield TriggerEvent(None)

class Asks(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(0)), method_name="then", kwargs={"more": 2})
    def then(self, context, event, more):
        self.defer(trigger=Counts(1), method_name="done", kwargs={"more": more + event.year - event.year})
    def done(self, context, event, more):
        return [context["ds"], event["seen"], more]

class Late(Asks):
    def execute(self, context):
        self.defer(trigger=Never(), method_name="done", timeout=timedelta(milliseconds=1))

class Nothing(Asks):
    def execute(self, context):
        self.defer(trigger=Counts(0), method_name="done")

POLICY = ExceptionRetryPolicy(rules=[
    RetryRule(exception="nowhere.at.all.Error", action=RetryAction.FAIL),
    RetryRule(exception=[KeyError, "builtins.ValueError"], action=RetryAction.FAIL, reason="it stays wrong"),
    RetryRule(exception=ConnectionError, retry_delay=timedelta(hours=1))])

with DAG("d", schedule="@daily"):
    Asks(task_id="asks")
    Late(task_id="late")
    Nothing(task_id="nothing")

    @task(retries=4, retry_policy=POLICY)
    def wrong():
        raise ValueError("wrong")

    @task(retries=2, retry_delay=timedelta(seconds=1), retry_policy=POLICY)
    def away(ti=None):
        ti.xcom_push("at", ti.start_date)
        raise ConnectionRefusedError("away")

    wrong(), away()
"""


def test_operators_wait_for_triggers_and_policies_of_tries_decide(read):
    trial = try_dag(read(WAITS)["d"], Interval(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC)))
    assert trial.result("asks") == ["2026-01-15", 1, 2]
    assert "Never has seen nothing within 0.001 seconds" in trial.errors["late"]
    assert "Counts has ended without an event" in trial.errors["nothing"]
    assert "ValueError: wrong" in trial.errors["wrong"]
    assert trial.tries == {"asks": 1, "late": 1, "nothing": 1, "wrong": 1, "away": 3}
    assert trial.result("away", "at") - datetime.now(UTC) > timedelta(hours=1.5), "two waits of an hour"


def test_a_rule_for_what_is_no_exception_is_told(read):
    text = "from airflow.sdk import RetryRule\nRetryRule(exception='wrong')\n"
    with pytest.raises(DefinitionError, match="'wrong' is no exception") as caught:
        read(text)
    assert caught.value.where.endswith("a_dag.py:2")
