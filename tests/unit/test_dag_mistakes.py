"""Mistakes in a DAG's file are told with the user's line and what to try."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.operators import BashOperator, EmptyOperator, PythonOperator

HERE = "test_dag_mistakes.py:"


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


def says(match: str, kind: type[tm.TidemillError] = DefinitionError):
    class Caught:
        def __enter__(self):
            self._raises = pytest.raises(kind, match=match)
            self.info = self._raises.__enter__()
            return self

        def __exit__(self, *error):
            done = self._raises.__exit__(*error)
            assert HERE in str(self.info.value.where), self.info.value
            return done

    return Caught()


def test_names():
    with says("cannot name a DAG"):
        tm.DAG("a b")
    with says("no name"):
        tm.DAG()
    with says("cannot name a pipeline"):
        tm.DAG("main")
    tm.DAG("team-a.nightly_load")
    with tm.DAG("d"):
        with says("cannot name a task"):
            empty("a b")
        with says("cannot name a task"):
            EmptyOperator()
        empty("a")
        with says('"a" exists already in DAG "d"'):
            empty("a")
        tm.TaskGroup("g")
        with says('"g" exists already'):
            tm.TaskGroup("g")


def test_two_dags_of_one_name():
    tm.DAG("d")
    with says('two pipelines named "d"'):
        tm.DAG("d")


def test_arguments():
    with says('no argument of DAG "retries"', UnknownName):
        tm.DAG("x", retries=3)
    with says("same argument"):
        tm.DAG("x", start="2026-01-01", start_date="2026-01-02")
    with says("no schedule"):
        tm.DAG("x", schedule="@dayly")
    with says("no schedule"):
        tm.DAG("x", schedule=3)
    with says("no time zone"):
        tm.DAG("x", schedule="@daily", zone="Europe/Lndon")
    with tm.DAG("d"):
        with says('no argument of EmptyOperator "retires"', UnknownName) as caught:
            empty("a", retires=3)
        assert caught.info.value.hint == 'did you mean "retries"?'
        with says('no trigger rule "all_sucess"', UnknownName):
            empty("b", trigger_rule="all_sucess")
        with says("no length of time"):
            empty("c", retry_delay="soon")
        with says("no function"):
            PythonOperator(task_id="e", python_callable="f")
        with says("no argument of @task.python", UnknownName):
            tm.task(retris=2)(print)
        with says("no class of exceptions"):
            empty("h", retry_on="ConnectionError")
        with says("callback is a function"):
            empty("i", on_failure_callback="tell")


def test_circles():
    with tm.DAG("d") as dag:
        a, b = empty("a"), empty("b")
        a >> b >> a
    with says("in a circle: b -> a -> b"):
        dag.definition()


def test_what_has_no_place_in_the_order():
    @tm.task
    def f():
        pass

    with tm.DAG("d"):
        a = empty("a")
        with says('"f" has no place') as caught:
            a >> f
        assert "call the function" in caught.info.value.hint
        with says("A int has no place"):
            a >> 3
        with says("cannot pair 2 tasks with 1"):
            tm.chain([a, empty("b")], [empty("c")])
        with tm.DAG("other"):
            x = empty("x")
        with says("belong to two DAGs"):
            a >> x
    with says("belong to no DAG"):
        empty("p") >> empty("q")


def test_results_are_not_known_yet():
    @tm.task
    def f(x=None):
        return [1]

    with tm.DAG("d"):
        with says("cannot be looped over"):
            for _ in f():
                pass
        with says("neither true nor false"):
            if f():
                pass
        with says("A key of a result is a text"):
            f()[0]


def test_mapping_mistakes():
    @tm.task
    def f(x=None, y=None):
        return [1]

    with tm.DAG("d"):
        with says("nothing can be mapped"):
            f.expand(x=3)
        with says("nothing can be mapped"):
            f.expand(x="abc")
        with says("nothing to map over"):
            f.expand()
        with says(r'no parameter of f\(\) "z"', UnknownName):
            f.expand(z=[1])
        with says("given in partial"):
            f.partial(x=1).expand(x=[1])
        with says("dictionaries of arguments"):
            f.expand_kwargs([1])
        with says('cannot be mapped over the key "rows"'):
            f.expand(x=f()["rows"])
        with says("shortest and of the longest"):
            f.expand(x=f().zip(f()), y=f().zip(f(), longest=True))
        with says("Instances cannot differ in"):
            BashOperator.partial(task_id="b", bash_command="ls").expand(retries=[1, 2])
        with says("no argument of BashOperator", UnknownName):
            BashOperator.partial(task_id="b", comand="ls")

        @tm.task_group
        def g(x):
            f.expand(y=[1, 2])

        with says("within a mapped group"):
            g.expand(x=[1])


def test_calls_that_do_not_fit():
    @tm.task
    def f(x):
        return x

    with tm.DAG("d"):
        with says("unexpected keyword argument 'y'"):
            f(y=1)
        with says("too many positional"):
            f(1, 2)


def test_params():
    with says("does not fit"):
        tm.DAG("a", params={"n": tm.Param("x", type="integer")}).definition()
    with says("schema of parameter"):
        tm.DAG("b", params={"n": tm.Param(1, type="intger")}).definition()
    with says("not JSON"):
        tm.Param(datetime(2026, 1, 1, tzinfo=UTC))
