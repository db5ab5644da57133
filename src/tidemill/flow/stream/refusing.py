"""What becomes of messages and rows that cannot be taken: the stream stops, or they go aside, and are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tidemill.flow.stream.letters import Kind, Read, letter_headers, send_letter, send_rows
from tidemill.flow.stream.measuring import Counts
from tidemill.flow.stream.plan import StreamPlan
from tidemill.model.errors import RunFailed
from tidemill.model.live import Tail
from tidemill.plan.topology import Node
from tidemill.ports.codec import Undecodable
from tidemill.ports.stream_engine import Failure, Given
from tidemill.ports.topic import Messages, Partition, Writer


class Refusing:
    """Decides by the stream's settings.

    Args:
        plan: the stream.
        counts: of its process.

    Raises:
        RunFailed: from every method: the stream is to stop at such a row.
    """

    def __init__(self, plan: StreamPlan, counts: Counts) -> None:
        self._plan = plan
        self._counts = counts
        self._read = Read()

    def reading(self, messages: Messages) -> None:
        """These are being worked on: what is refused from now on may be one of them."""
        self._read.now(messages)

    def unread(self, writer: Writer, node: Node, messages: Messages, bad: Sequence[Undecodable]) -> None:
        """Messages that the codec of a source cannot read."""
        for one in bad:
            error = one.error + _hint(node, one.error)
            self._refuse(writer, node, "undecodable", error, messages.partition, messages.offsets[one.index], None)

    def failed(self, writer: Writer, number: int, failure: Failure) -> None:
        """A row that a step of task `number` cannot take, or that a check has found wrong."""
        nodes = self._plan.topology.nodes
        origin = None
        if failure.source is not None:
            origin = Partition(self._plan.topic_of(nodes[failure.source]), number)
        kind: Kind = "quarantined" if failure.checks else "failed"
        self._refuse(writer, nodes[failure.node], kind, failure.error, origin, failure.offset, failure.row)

    def untaken(self, writer: Writer, number: int, row: Mapping[str, Any], error: str) -> None:
        """A row that the sink at a node cannot take."""
        self._refuse(writer, self._plan.topology.nodes[number], "failed", error, None, None, row)

    def late(self, writer: Writer, late: Given) -> None:
        """Rows that came too late for a step."""
        node = self._plan.topology.nodes[late.node]
        assert node.step is not None
        self._counts.late += late.rows.height
        error = "the row came after what it belongs to was done with"
        tells = partial(letter_headers, "late", node.step.verb, error, None, None)
        send_rows(writer, self._plan.late, tells, late.rows.to_dicts())

    def _refuse(
        self,
        writer: Writer,
        node: Node,
        kind: Kind,
        error: str,
        origin: Partition | None,
        offset: int | None,
        row: Mapping[str, Any] | None,
    ) -> None:
        verb = "decode" if node.step is None else node.step.verb
        decision = self._plan.on_error(node)
        where = "" if origin is None or offset is None else f" (message {offset} of {origin})"
        if decision == "stop":
            what = "that fails" if kind == "quarantined" else f"that {verb} cannot take"
            raise RunFailed(
                f'"{self._plan.name}" stops at a row {what}{where}: {error}',
                where=None if node.step is None or node.step.at is None else str(node.step.at),
                hint=f'errors={{"{verb}": "dead_letter"}} puts such rows aside and goes on',
            )
        self._counts.failed += 1
        if decision == "skip":
            return
        self._counts.letters += 1
        found = self._read.message(origin, offset) if origin is not None and offset is not None else None
        tells = partial(letter_headers, kind, verb, error, origin, offset)
        if found is None:
            send_letter(writer, self._plan.dead_letters, tells, row=row)
        else:  # a check judges values that a step may have made, so its letter has them beside the message
            send_letter(writer, self._plan.dead_letters, tells, found, row if kind == "quarantined" else None)


def _hint(node: Node, error: str) -> str:
    """Whoever follows a log for the first time may not know that its lines are taken for JSON."""
    follows = isinstance(node.topic.source, Tail)
    return '; codec="text" takes lines as they are' if follows and error.startswith("not JSON") else ""
