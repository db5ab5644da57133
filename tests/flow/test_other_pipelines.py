"""What tasks reach of other pipelines: runs by a moment, whether or not these run by time."""

from datetime import UTC, datetime

from harness.driving import dag
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.others import OtherPipelines
from tidemill.model.graph import Node
from tidemill.model.run import RunInfo
from tidemill.plan.schedule import moment_of
from tidemill.testing.clock import ManualClock


def test_a_pipeline_that_does_not_run_by_time_has_one_run_for_each_moment():
    clock = ManualClock()
    store = SqlMetadata.temporary(clock)
    with store.write() as tx:
        tx.definitions.keep([dag("p", Node("t"))], "v1", "p.py", clock.now())
    others = OtherPipelines(lambda: store, clock, lambda: None)
    day, next_day = datetime(2026, 1, 15), datetime(2026, 1, 16, tzinfo=UTC)
    first = others.trigger("p", conf={}, logical_date=day)
    assert others.trigger("p", conf={}, logical_date=day.replace(tzinfo=UTC)) == first
    assert others.state_at("p", day) == "queued"
    assert others.state_at("p", next_day) is None
    assert others.trigger("p", conf={}, logical_date=next_day) != first
    with store.read() as tx:
        key = tx.batches.get(tx.runs.get(first).batch_id).key.run_key
    assert moment_of(RunInfo(1, 1, 1, "p", "", "", run_key=key)) == day.replace(tzinfo=UTC)
    store.close()
