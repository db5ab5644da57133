"""Letting go of messages that have been worked on, in topics that nobody but the stream reads."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from tidemill.flow.stream.work import Work
from tidemill.model.errors import Refused, UnknownName, Unreachable
from tidemill.ports.topic import Partition, Topics

_log = logging.getLogger("tidemill")


def worked_off(works: Iterable[Work]) -> dict[Partition, int]:
    """How far tasks have come in what other stages sent them."""
    return {
        partition: work.positions[partition]
        for work in works
        for partition, nodes in work.inputs.items()
        if nodes[0].kind == "exchange"
    }


def try_to_trim(topics: Topics, upto: Mapping[Partition, int]) -> None:
    """Trim; where that cannot be done now the stream goes on, and the messages wait for the next time."""
    if not upto:
        return
    try:
        topics.trim(upto)
    except (Refused, UnknownName, Unreachable) as error:
        _log.warning("Messages that are no longer needed stay for now: %s", error)
