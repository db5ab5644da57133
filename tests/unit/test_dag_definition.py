"""What a DAG's file says is what its definition says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.batch import Interval
from tidemill.model.condition import AllOf, FilesArrive, Published
from tidemill.model.definition import Definition
from tidemill.model.graph import Lengths, Retry, TriggerRule
from tidemill.operators import BaseOperator, BashOperator, EmptyOperator, Label, setup, teardown

HERE = "test_dag_definition.py:"


@pytest.fixture(autouse=True)
def nothing_declared():
    registry.clear()
    yield
    registry.clear()


def empty(task_id: str, **options: object) -> EmptyOperator:
    made: EmptyOperator = EmptyOperator(task_id=task_id, **options)
    return made


def nodes(dag):
    return dag.definition().graph.nodes


def edges(dag):
    return {(above, node.id) for node in nodes(dag).values() for above in node.upstream}


# What is said


def test_every_argument_of_a_task_reaches_its_node():
    with tm.DAG("d") as dag:
        empty(
            "t", retries=3, retry_delay=30, retry_exponential_backoff=True, max_retry_delay="10m", jitter=0.2,
            pool="db", pool_slots=2, priority_weight=7, weight_rule="absolute", queue="big", trigger_rule="one_failed",
            wait_for_downstream=True, execution_timeout=timedelta(minutes=5), max_active_tis_per_dag=4,
            max_active_tis_per_dagrun=2, inlets=["a.b"], outlets=[Published("c.d")], doc_md="what for",
            on_failure_callback=print, on_retry_callback=[print, len],
        )  # fmt: skip
    node, info = nodes(dag)["t"], dag.definition().tasks["t"]
    assert node.retry == Retry(3, timedelta(seconds=30), 2.0, timedelta(minutes=10), 0.2)
    assert (node.pool, node.slots, node.weight, node.queue, node.rule) == ("db", 2, 7, "big", TriggerRule.ONE_FAILED)
    assert (node.waits_for_past, node.waits_for_downstream) == (True, True)
    assert (node.timeout, node.limit, node.limit_in_run) == (timedelta(minutes=5), 4, 2)
    assert (info.operator, info.inlets, info.outlets, info.doc) == ("empty", ("a.b",), ("c.d",), "what for")
    assert info.callbacks == ("failure", "retry")
    assert HERE in info.place


def test_a_definition_survives_the_database():
    with tm.DAG("d", schedule="@daily", start="2026-01-01", zone="Europe/London", params={"n": 1}) as dag:
        empty("a") >> Label("x") >> empty("b")
        tm.task(lambda v: v, task_id="m").expand(v=[1, 2])
    assert Definition.from_json(dag.definition().as_json()) == dag.definition()


def test_airflows_words_and_ours_mean_the_same():
    when = datetime(2026, 1, 1, tzinfo=UTC)
    airflow = tm.DAG(dag_id="one", schedule="@daily", start_date=when, dagrun_timeout=timedelta(hours=1),
                     doc_md="x", is_paused_upon_creation=True).definition()  # fmt: skip
    ours = tm.DAG("two", schedule="@daily", start=when, run_timeout="1h", doc="x", paused=True).definition()
    for name in ("schedule", "start", "run_timeout", "doc", "paused"):
        assert getattr(airflow, name) == getattr(ours, name)


def test_schedules_of_every_kind():
    class Lunar:
        def next_interval(self, after):
            start = after.end if after else datetime(2025, 12, 1, tzinfo=UTC)
            return Interval(start, start + timedelta(days=28))

    def schedule(value, **more):
        registry.clear()
        return tm.DAG("d", schedule=value, **more).definition().schedule

    assert schedule(None).timetable is None
    assert schedule("30 1 * * *", zone="Europe/London").timetable.zone == "Europe/London"
    assert schedule("@daily", start=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))).timetable.zone == "Asia/Tokyo"
    assert schedule(["0 1 * * *", "0 5 * * *"]).timetable.crons == ("0 1 * * *", "0 5 * * *")
    assert schedule(timedelta(hours=6)).timetable.step == timedelta(hours=6)
    assert schedule(tm.published("a.b") & tm.published("c.d")).on == AllOf((Published("a.b"), Published("c.d")))
    assert schedule([Published("a.b"), "s3://x"]).on.assets() == ("a.b", "s3://x")
    assert schedule(FilesArrive("in/*")).files == FilesArrive("in/*")
    custom = schedule(Lunar(), start="2026-01-01")
    assert 100 <= len(custom.intervals) <= 110, "those ahead, and a few that are over"
    assert custom.more
    assert custom.intervals[0].start >= datetime(2026, 1, 1, tzinfo=UTC)


def test_weights_are_those_of_airflow():
    """`downstream` adds what depends on a task, each once; `upstream` what it depends on; `absolute` nothing."""
    with tm.DAG("d") as dag:
        a, b, c, d = empty("a"), empty("b", priority_weight=10), empty("c"), empty("d")
        a >> [b, c] >> d
        e = empty("e", weight_rule="upstream", priority_weight=5)
        d >> e >> empty("f", weight_rule="absolute")
    weights = {id_: node.weight for id_, node in nodes(dag).items()}
    assert weights == {"a": 1 + 10 + 1 + 1 + 5 + 1, "b": 10 + 1 + 5 + 1, "c": 1 + 1 + 5 + 1, "d": 1 + 5 + 1,
                       "e": 5 + 1 + 10 + 1 + 1, "f": 1}  # fmt: skip


def test_a_chain_of_ten_thousand_tasks_is_defined_in_a_moment():
    with tm.DAG("d") as dag:
        tm.chain(*[empty(f"t{i}") for i in range(10_000)])
    weights = dag.definition().graph.nodes
    assert (weights["t0"].weight, weights["t9999"].weight) == (10_000, 1)


def test_order_by_every_means():
    with tm.DAG("d") as dag:
        a, b, c, d, e, f = (empty(x) for x in "abcdef")
        tm.chain(a, [b, c], Label("x"), [d, e], f)
        f << a
        g = empty("g")
        [a, b] >> g
        g.set_downstream([empty("h")])
    assert edges(dag) == {("a", "b"), ("a", "c"), ("b", "d"), ("b", "e"), ("c", "d"), ("c", "e"), ("d", "f"),
                          ("e", "f"), ("a", "f"), ("a", "g"), ("b", "g"), ("g", "h")}  # fmt: skip
    assert dag.definition().tasks["b"].labels == {"d": "x", "e": "x"}


def test_groups_nest_prefix_and_stand_in_the_order():
    with tm.DAG("d") as dag:
        with tm.TaskGroup("outer", default_args={"retries": 4}) as outer:
            first = empty("first")
            with tm.TaskGroup("inner") as inner:
                empty("x") >> empty("y")
            with tm.TaskGroup("plain", prefix_group_id=False):
                empty("z", retries=1)
            first >> inner
        empty("before") >> outer >> empty("after")
    assert edges(dag) == {("before", "outer.first"), ("before", "outer.z"), ("outer.first", "outer.inner.x"),
                          ("outer.inner.x", "outer.inner.y"), ("outer.inner.y", "after"),
                          ("outer.z", "after")}  # fmt: skip
    definition = dag.definition()
    assert definition.tasks["outer.inner.x"].group == ("outer", "outer.inner")
    assert [node.retry.times for node in definition.graph.nodes.values()] == [4, 4, 4, 1, 0, 0]


def test_mapping_says_of_what_its_length_is():
    with tm.DAG("d") as dag:

        @tm.task
        def some():
            return [1, 2]

        @tm.task
        def use(a=None, b=None):
            return a

        one, other = some(), some()
        use.override(task_id="product").expand(a=one, b=[1, 2, 3])
        use.override(task_id="zipped").partial(b=1).expand(a=one.map(str).zip(other))
        use.override(task_id="longest").expand(a=one.zip(other, fillvalue=0))
        use.override(task_id="rows").expand_kwargs([{"a": 1}, {"b": 2}])
        BashOperator.partial(task_id="bash", retries=2).expand(bash_command={"x": 1})
    made = nodes(dag)
    assert made["product"].mapped == Lengths((3,), ("some",))
    assert made["zipped"].mapped == Lengths(zipped=(("some", "some__1"),))
    assert made["longest"].mapped == Lengths(zipped=(("some", "some__1"),), longest=True)
    assert made["rows"].mapped == Lengths((2,))
    assert made["bash"].mapped == Lengths((1,))
    assert made["bash"].retry.times == 2
    assert made["product"].upstream == ("some",)
    assert dag.definition().tasks["bash"].operator == "bash"


def test_a_mapped_group_is_one_scope():
    with tm.DAG("d") as dag:

        @tm.task
        def some():
            return [1]

        @tm.task
        def one(x):
            return x

        @tm.task_group
        def grouped(x):
            return one.override(task_id="second")(one.override(task_id="first")(x))

        empty("after") << grouped.expand(x=some())
    made = nodes(dag)
    assert made["grouped.first"].scope == made["grouped.second"].scope == "grouped"
    assert made["grouped.first"].mapped == made["grouped.second"].mapped == Lengths(tasks=("some",))
    assert made["grouped.second"].upstream == ("grouped.first",)
    assert made["after"].upstream == ("grouped.second",)


def test_setups_and_teardowns_stand_around_what_is_within():
    with tm.DAG("d") as dag:

        @setup
        @tm.task
        def create():
            return "c"

        @teardown(on_failure_fail_dagrun=True)
        @tm.task
        def delete():
            pass

        before = empty("before")
        with create() >> delete():
            a, b = empty("a"), empty("b")
            a >> b
        before >> a
        b >> empty("after")
    made = nodes(dag)
    assert edges(dag) >= {("create", "a"), ("a", "b"), ("b", "delete"), ("create", "delete"), ("b", "after")}
    assert (made["create"].setup, made["delete"].teardown, made["delete"].strict) == (True, True, True)
    assert made["delete"].rule is TriggerRule.ALL_DONE_SETUP_SUCCESS
    assert dag.definition().graph.leaves == {"after", "delete"}


def test_what_follows_a_group_does_not_wait_for_its_teardown():
    with tm.DAG("d") as dag:
        with tm.TaskGroup("g") as group:
            up, work, down = empty("up"), empty("work"), empty("down")
            up.as_setup() >> work >> down.as_teardown(setups=up)
        group >> empty("next")
    assert nodes(dag)["next"].upstream == ("g.work",)


def test_an_operator_of_ones_own():
    class Greet(BaseOperator):
        template_fields = ("name",)

        def __init__(self, name: str, loud: bool = False, **kwargs):
            super().__init__(**kwargs)
            self.name, self.loud = name, loud

        def execute(self, context):
            return f"hello {self.name}{'!' if self.loud else ''}"

    with tm.DAG("d", schedule="@daily", default_args={"loud": True, "bash_command": "x", "retries": 2}) as dag:
        one = Greet(task_id="one", name="{{ ds }}")
        Greet.partial(task_id="many").expand(name=[one.output, "b"])
    assert nodes(dag)["one"].retry.times == 2
    assert nodes(dag)["many"].upstream == ("one",)
    assert dag.definition().tasks["one"].operator == "greet"
    trial = dag.test("2026-01-05")
    assert trial.result("many") == ["hello hello 2026-01-05!!", "hello b!"]


def test_a_file_without_parameters_and_with_a_function_twice():
    with tm.DAG("d") as dag:

        @tm.task
        def f(x=0):
            return x

        f(f(f()))
        with tm.TaskGroup("g"):
            f()
    assert list(nodes(dag)) == ["f", "f__1", "f__2", "g.f"]
