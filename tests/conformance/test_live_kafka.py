"""Feeding a topic of Kafka: messages and position are one transaction of it, whoever dies when."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.livefeeds import custom, drain
from harness.topics import Place
from tidemill.flow.live.progress import forget_progress


@pytest.mark.parametrize("at", [4, 5], ids=["before the commit", "after the commit"])
def test_death_loses_and_doubles_nothing(kafka_topics: Place, tmp_path: Path, at: int) -> None:
    """Readers of what is committed see each message once; a later process finds the position behind markers."""
    script = custom(kafka_topics, tmp_path)
    script.play(dying_at=at)
    assert script.rig.told == []
    assert script.rig.rows() == script.expected
    assert script.rig.progress().position == len(script.expected)


def test_a_source_can_be_made_to_begin_anew(kafka_topics: Place, tmp_path: Path) -> None:
    script = custom(kafka_topics, tmp_path)
    script.play()
    found = forget_progress(kafka_topics.topics, kafka_topics.clock, script.rig.topic.name)
    assert found is not None
    assert found.messages == len(script.expected)
    feeding = script.rig.feeding()
    script.drain(feeding)
    drain(feeding, 1)
    feeding.close()
    info = kafka_topics.topics.describe(script.rig.topic.name)
    assert info is not None
    assert sum(info.end) >= 2 * len(script.expected)
