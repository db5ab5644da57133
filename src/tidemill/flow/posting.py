"""What is posted for a feed begins a run, where its pipeline runs by calls: one for many bodies that come together.

body on the disk -> a run that is asked for and has not begun takes it -> otherwise one is asked for
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from tidemill.model.batch import BatchKey
from tidemill.model.run import RUN_ENDS, RunState
from tidemill.ports.metadata import Metadata
from tidemill.ports.tasks import Pipelines

#: What the run keys of such runs begin with.
_PREFIX = "feed-"
#: Runs that are looked through for one that has not begun.
_MOST = 20
_GOING = [state for state in RunState if state not in RUN_ENDS]


def run_for(
    metadata: Metadata, pipelines: Pipelines, pipeline: str, source: str, number: int, came: datetime | None
) -> int | None:
    """The run that loads a body, which is in the inbox under that number.

    A body that came again, because an answer was lost, gets no second run: it is told the first one, or None where its
    batch was published long ago.

    Args:
        metadata: the database.
        pipelines: asks for runs.
        pipeline: whose schedule is "@webhook".
        source: for which the body came.
        number: of the body.
        came: when it came for the first time.

    Raises:
        UnknownName: there is no such pipeline.
    """
    key = f"{_PREFIX}{source}-{number}"
    with metadata.read() as tx:
        own = tx.batches.find(BatchKey(pipeline, None, key))
        taken = tx.bookmarks.get(pipeline, source).value
        going = tx.runs.listed(pipelines=[pipeline], states=_GOING, limit=_MOST)
    if own is None:
        if taken is not None and int(cast(int, taken)) >= number:
            return None
        # What begins after the body was on the disk takes it. Later attempts keep to what the first one took.
        for one in going:
            begins_later = one.run.started_at is None or (came is not None and one.run.started_at > came)
            if one.run.attempt == 1 and (one.run_key or "").startswith(_PREFIX) and begins_later:
                return one.run.id
    return pipelines.trigger(pipeline, conf={}, run_key=key)
