"""`result.concat(other)` and `result.filter(f)`: as arguments, and as what a task is mapped over."""

from __future__ import annotations

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.errors import DefinitionError
from tidemill.model.graph import Lengths


@pytest.fixture(autouse=True)
def _alone():
    registry.clear()
    yield
    registry.clear()


@tm.task
def some():
    return [1, 2, 3]


@tm.task
def other():
    return {"k": 4}


@tm.task
def use(x):
    return x


def test_as_arguments_they_are_lists():
    with tm.DAG("d") as dag:
        a, b = some(), other()
        use.override(task_id="joined")(a.concat(b, a.map(str)))
        use.override(task_id="odd")(a.filter(lambda n: n % 2))
        use.override(task_id="true")(a.map(lambda n: n - 1).filter())
    trial = dag.test().check()
    assert trial.result("joined") == [1, 2, 3, ("k", 4), "1", "2", "3"]
    assert trial.result("odd") == [1, 3]
    assert trial.result("true") == [1, 2]


def test_a_task_is_mapped_over_one_after_the_other():
    with tm.DAG("d") as dag:
        a, b = some(), other()
        use.override(task_id="joined").expand(x=a.concat(b).map(str))
        use.override(task_id="odd").expand(x=a.filter(lambda n: n % 2))
        use.override(task_id="both").expand(x=a.filter(lambda n: n > 2).concat(a))
    nodes = dag.definition().graph.nodes
    assert nodes["joined"].mapped == Lengths(summed=(("some", "other"),))
    assert nodes["odd"].mapped == Lengths(tasks=("some",))
    assert nodes["joined"].upstream == ("some", "other")
    trial = dag.test().check()
    assert trial.result("joined") == ["1", "2", "3", "('k', 4)"]
    assert [trial.states[f"odd[{at}]"] for at in range(3)] == ["success", "skipped", "success"]
    assert trial.result("odd") == [1, 3]
    assert trial.result("both") == [3, 1, 2, 3]


def test_what_has_no_length_beforehand_cannot_be_zipped():
    with tm.DAG("d"):
        a, b = some(), other()
        for wrong in (lambda: a.filter().map(str).zip(b), lambda: a.zip(b.concat(a)), lambda: a.zip(b).concat(a)):
            with pytest.raises(DefinitionError):
                wrong()
