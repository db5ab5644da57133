"""DAG files as users write them, run by `dag.test()`: what they say is what happens."""

from datetime import UTC, datetime, timedelta

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.operators import (
    BashOperator,
    BranchPythonOperator,
    EmptyOperator,
    Label,
    LatestOnlyOperator,
    PythonOperator,
    ShortCircuitOperator,
    TriggerRule,
    cross_downstream,
)


@pytest.fixture(autouse=True)
def nothing_declared():
    registry.clear()
    yield
    registry.clear()


def test_classic_operators():
    """A DAG of Airflow's first kind: operators, default arguments, templates, xcoms, a branch."""

    def extract(ds, ti, **kwargs):
        ti.xcom_push("rows", 3)
        return {"day": ds, "pipeline": kwargs["dag"].dag_id}

    with tm.DAG(
        dag_id="classic",
        schedule="@daily",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"retries": 1, "owner": "data", "start_date": datetime(2026, 1, 1, tzinfo=UTC)},
        tags=["example"],
        params={"greeting": "hello"},
    ) as dag:
        start = EmptyOperator(task_id="start")
        get = PythonOperator(task_id="extract", python_callable=extract)
        say = BashOperator(
            task_id="say",
            bash_command="echo '{{ params.greeting }} {{ ds }} {{ ti.xcom_pull(task_ids='extract', key='rows') }}'",
        )
        decide = BranchPythonOperator(
            task_id="decide", python_callable=lambda ti: "many" if ti.xcom_pull("extract", key="rows") > 2 else "few"
        )
        many, few = EmptyOperator(task_id="many"), EmptyOperator(task_id="few")
        end = EmptyOperator(task_id="end", trigger_rule="none_failed_min_one_success")
        start >> get >> [say, decide]
        decide >> Label("more than two") >> many
        decide >> Label("two or less") >> few
        [say, many, few] >> end

    trial = dag.test("2026-01-15")
    assert trial.ok, trial
    assert trial.states == {
        "start": "success", "extract": "success", "say": "success", "decide": "success", "many": "success",
        "few": "skipped", "end": "success",
    }  # fmt: skip
    assert trial.result("extract") == {"day": "2026-01-15", "pipeline": "classic"}
    assert trial.result("say") == "hello 2026-01-15 3"
    assert trial.xcoms["decide"] == "many"
    definition = dag.definition()
    assert definition.graph.nodes["say"].retry.times == 1
    assert definition.tasks["decide"].labels == {"many": "more than two", "few": "two or less"}
    assert definition.owner == "data"


def test_taskflow():
    """Functions as tasks: results are arguments, and make the order."""

    @tm.dag(schedule="@hourly", start="2026-01-01", params={"factor": tm.Param(10, type="integer", minimum=1)})
    def taskflow():
        """Counts."""

        @tm.task
        def numbers() -> list[int]:
            return [1, 2, 3]

        @tm.task(multiple_outputs=True)
        def stats(values, params):
            return {"total": sum(values) * params["factor"], "count": len(values)}

        @tm.task
        def told(total, count, at: datetime | None = None, data_interval_end=None):
            return f"{total} of {count} at {data_interval_end:%H:%M}, {at}"

        @tm.task.bash
        def shout(text):
            return f"echo '{text} {{{{ ds_nodash }}}}'"

        found = stats(numbers())
        shout(told(found["total"], found["count"], at=datetime(2026, 1, 1, tzinfo=UTC)))

    dag = taskflow()
    assert dag.doc == "Counts."
    trial = dag.test("2026-01-15T07:30", params={"factor": 2})
    assert trial.result("stats", "total") == 12
    assert trial.result("told") == "12 of 3 at 08:00, 2026-01-01 00:00:00+00:00"
    assert trial.result("shout").endswith("20260115")
    assert trial.order == ["numbers", "stats", "told", "shout"]
    with pytest.raises(tm.TidemillError, match="less than the minimum"):
        dag.test(params={"factor": 0})
    with pytest.raises(tm.TidemillError, match='no parameter "facto"'):
        dag.test(params={"facto": 1})


def test_mapping_with_groups():
    """As many instances as a task found files; a group is mapped as one, index by index."""

    @tm.dag(start="2026-01-01")
    def mapped():
        @tm.task
        def files():
            return ["a.csv", "b.csv", "skip.csv"]

        @tm.task
        def size(file, unit):
            if file.startswith("skip"):
                from tidemill.operators import SkipTask

                raise SkipTask("nothing in it")
            return len(file) * unit

        @tm.task
        def total(sizes):
            return sum(sizes)

        @tm.task_group
        def load(file, target="lake"):
            @tm.task
            def stage(file):
                return f"staged {file}"

            @tm.task
            def commit(staged, target):
                return f"{staged} into {target}"

            return commit(stage(file), target)

        @tm.task
        def report(commits):
            return list(commits)

        found = files()
        total(size.partial(unit=2).expand(file=found))
        report(load.partial(target="main").expand(file=found.map(str.upper)))

    trial = mapped().test()
    assert trial.states["size[2]"] == "skipped"
    assert trial.result("size") == [10, 10]
    # A skipped instance skips what asks for all to succeed, as in Airflow.
    assert trial.states["total"] == "skipped"
    assert trial.result("load.commit") == [f"staged {f} into main" for f in ("A.CSV", "B.CSV", "SKIP.CSV")]
    assert trial.result("report") == trial.result("load.commit")


def test_setup_and_teardown():
    """The cluster is taken down though the work on it failed, and the run has failed all the same."""
    events = []

    with tm.DAG("cluster", default_args={"retries": 0}) as dag:

        @tm.task
        def create():
            events.append("create")
            return "c1"

        @tm.task
        def delete(name):
            events.append(f"delete {name}")

        @tm.task(retries=2, retry_delay=timedelta(hours=1))
        def query(name):
            events.append("query")
            raise ConnectionError("no answer")

        @tm.task
        def after(answer):
            events.append("after")

        cluster = create()
        with delete(cluster).as_teardown(setups=cluster):
            after(query(cluster))

    trial = dag.test()
    assert trial.state == "failed"
    assert events == ["create", "query", "query", "query", "delete c1"]
    assert trial.states == {
        "create": "success", "delete": "success", "query": "failed", "after": "upstream_failed",
    }  # fmt: skip
    assert "ConnectionError: no answer" in trial.errors["query"]
    assert "test_dag_examples.py" in trial.errors["query"]
    assert "failed  3 tries" in repr(trial)
    with pytest.raises(tm.TidemillError, match="no answer"):
        trial.check()


def test_short_circuit_latest_only_and_cross_downstream():
    with tm.DAG("gates", schedule="@daily", start="2026-01-01") as dag:
        stop = ShortCircuitOperator(
            task_id="stop", python_callable=lambda: False, ignore_downstream_trigger_rules=False
        )
        never = EmptyOperator(task_id="never")
        always = EmptyOperator(task_id="always", trigger_rule=TriggerRule.ALL_DONE)
        stop >> never >> always
        hard = ShortCircuitOperator(task_id="hard", python_callable=list)
        hard >> EmptyOperator(task_id="h1") >> EmptyOperator(task_id="h2", trigger_rule="all_done")
        latest = LatestOnlyOperator(task_id="latest")
        latest >> EmptyOperator(task_id="by_hand")
        a, b = [EmptyOperator(task_id=f"a{i}") for i in (1, 2)], [EmptyOperator(task_id=f"b{i}") for i in (1, 2)]
        cross_downstream(a, b)
    trial = dag.test("2026-01-15")
    assert trial.states["never"] == "skipped"
    assert trial.states["always"] == "success"
    assert trial.states["h2"] == "skipped"
    assert trial.states["by_hand"] == "success"
    assert dag.definition().graph.nodes["b2"].upstream == ("a1", "a2")


def test_callbacks_of_a_run_hear_how_it_ended():
    heard = []

    def hear(context):
        heard.append((context["reason"], context["ti"].task_id, context["ds"]))

    def fail():
        raise ValueError("bad")

    for name, function in (("good", list), ("bad", fail)):
        with tm.DAG(name, schedule="@daily", on_failure_callback=hear, on_success_callback=[hear]) as dag:
            EmptyOperator(task_id="first") >> PythonOperator(task_id="t", python_callable=function)
        dag.test("2026-01-15")
    assert heard == [("success", "first", "2026-01-15"), ("failure", "t", "2026-01-15")]


def test_only_some_tasks_may_be_tried():
    with tm.DAG("d") as dag:
        tm.chain(*[EmptyOperator(task_id=t) for t in "abc"])
    assert dag.test(tasks=["b", "c"]).order == ["b", "c"]
    with pytest.raises(tm.TidemillError, match='no task "x"'):
        dag.test(tasks=["x"])


def test_a_sensor_that_never_sees_anything_ends_by_its_timeout():
    """Seven days pass in a moment, whatever the mode."""
    for mode in ("poke", "reschedule"):
        with tm.DAG(mode) as dag:

            @tm.task.sensor(mode=mode, poke_interval=3600)
            def never():
                return False

            never()
        trial = dag.test()
        assert "has waited for 7 days" in trial.errors["never"]


def test_jinja_reaches_what_a_mapped_instance_is():
    with tm.DAG("d", schedule="@daily") as dag:
        BashOperator.partial(task_id="b").expand(bash_command=["echo {{ ti.map_index }}", "echo {{ ti.map_index }}"])
    assert dag.test("2026-01-01").result("b") == ["0", "1"]


def test_a_pool_smaller_than_its_tasks_does_not_hold_a_trial_back():
    with tm.DAG("d") as dag:
        for n in (1, 5):
            EmptyOperator(task_id=f"t{n}", pool="db", pool_slots=n, queue=f"q{n}")
    assert dag.test().ok
