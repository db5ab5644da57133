"""Rows that choose their topic, on every kind of broker: each goes where it says, and what cannot go anywhere aside."""

from __future__ import annotations

import uuid

import tidemill as tm
from harness.poison import Driven, pipeline, topic_name
from harness.topics import Place


def test_each_row_goes_to_the_topic_that_it_chooses_and_a_missing_one_is_made(place: Place) -> None:
    run = uuid.uuid4().hex[:8]
    source = tm.topic(topic_name(), {"id": "long", "kind": "string"})
    with pipeline() as p:

        @p.stream(source)
        def routed(t: tm.Frame) -> tm.Frame:
            chosen = tm.when(tm.col("kind") != "drop").then(tm.col("kind")).otherwise(None)
            return t.to_topic(tm.topic(f"like-{run}", key="id", partitions=2), choose=chosen)

        with Driven(place, routed) as driven:
            driven.begin()
            own = f"{p.name}.routed.late"
            kinds = [f"a-{run}", f"b-{run}", "drop", "no topic!", own, f"a-{run}"]
            driven.feed(source.name, [{"id": at, "kind": kind} for at, kind in enumerate(kinds)])
            driven.work()
            assert [row["id"] for row in driven.rows(f"b-{run}")] == [1]
            assert sorted(row["id"] for row in driven.rows(f"a-{run}")) == [0, 5]
            made = place.topics.describe(f"a-{run}")
            assert made is not None
            assert made.partitions == 2, "as the topic of the sink says"
            letters = {one["error"]: one["step"] for one in driven.letters()}
            assert letters == {
                '"no topic!" cannot name a topic.': "to_topic",
                f'"{own}" is a topic of the stream\'s own': "to_topic",
            }
            assert driven.values(own) == []
            driven.stop()
            driven.begin()  # another process, to which the topics are there already
            driven.feed(source.name, [{"id": 6, "kind": f"b-{run}"}])
            driven.work()
            assert sorted(row["id"] for row in driven.rows(f"b-{run}")) == [1, 6]
