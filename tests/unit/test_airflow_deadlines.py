"""Airflow's `DeadlineAlert`: the deadline of a DAG, what it counts from, and what is called."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from tidemill.authoring import registry
from tidemill.compat.airflow.finder import serving
from tidemill.model.definition import Definition
from tidemill.model.errors import DefinitionError

FILE = """
from datetime import datetime, timedelta
from airflow.sdk import DAG, AsyncCallback, BaseNotifier, DeadlineAlert, DeadlineReference, SyncCallback, task

said = []

async def waits(text, context):
    said.append((text, context["reason"]))

def calls(text):
    said.append((text, None))

class Notifies(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, text):
        self.text = text

    def notify(self, context):
        said.append((self.text, "notifier"))

FIXED = DeadlineReference.FIXED_DATETIME(datetime(2026, 1, 1, 12))
for name, reference, callback in (
    ("a", DeadlineReference.DAGRUN_LOGICAL_DATE, AsyncCallback(waits, {"text": "a"})),
    ("b", DeadlineReference.DAGRUN_QUEUED_AT, SyncCallback("a_deadline.calls", kwargs={"text": "b"})),
    ("c", FIXED, AsyncCallback(Notifies, kwargs={"text": "c {{ reason }}"})),
):
    with DAG(name, schedule="@daily", start_date=datetime(2026, 1, 1),
             deadline=DeadlineAlert(reference=reference, interval=timedelta(hours=1), callback=callback)):
        @task
        def go(): ...
        go()
"""


def read(text):
    registry.clear()
    names = {"__name__": "a_deadline"}
    with serving():
        exec(compile(text, "a_deadline.py", "exec"), names)
    found = registry.declared()
    registry.clear()
    return found, names


def test_a_deadline_counts_from_what_it_says_and_calls(monkeypatch):
    made, names = read(FILE)
    kept = [Definition.from_json(made[name].definition().as_json()) for name in "abc"]
    assert [one.deadline for one in kept] == [timedelta(hours=1)] * 3
    assert [one.deadline_from for one in kept] == ["start", "created", "2026-01-01T12:00:00+00:00"]
    assert all(one.callbacks == ("deadline",) for one in kept)
    module = type(sys)("a_deadline")
    module.calls = names["calls"]
    monkeypatch.setitem(sys.modules, "a_deadline", module)
    for name in "abc":
        made[name].callbacks["deadline"][0]({"reason": "deadline"})
    assert names["said"] == [("a", "deadline"), ("b", None), ("c deadline", "notifier")]


@pytest.mark.parametrize(
    "deadline",
    [
        "DeadlineAlert(DeadlineReference.AVERAGE_RUNTIME(), timedelta(1), None)",
        "DeadlineAlert('mine', timedelta(1), None)",
        "DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, 'an hour', None)",
        "[DeadlineAlert(FIXED, timedelta(1), None), DeadlineAlert(FIXED, timedelta(2), None)]",
    ],
)
def test_what_is_not_kept_here_is_refused_with_its_place(deadline):
    with pytest.raises(DefinitionError) as caught:
        read(FILE + f"\nDAG('d', deadline={deadline})\n")
    assert "a_deadline.py:" in caught.value.where
    assert caught.value.hint
