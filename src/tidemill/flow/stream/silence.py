"""Lanes that say nothing: for how long the others wait for them, and what time it is for them meanwhile.

Times are stamped where their column is made, lane by lane: at a source, and behind a step that makes new ones. At each
of these places a lane may be silent:

- At a source, when its partition has been read to its end, and nothing has come for the topic's `idle`.
- Behind a step, when no row has come there for as long, and all that was in the stream's topics until then has gone
  through its stages: otherwise rows may be on their way. A `Sweep` finds that out. A filter, a join or another key may
  keep all rows of a partition from a task for ever, while the partition speaks.

The event time of a silent lane goes on with the least of those that speak, in whatever process. Where none does, it is
as late as anywhere, and goes on from there with the clock if the topic says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta

from tidemill.flow.stream.asking import LATER
from tidemill.flow.stream.others import Others
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.sweep import Sweep
from tidemill.flow.stream.times import Times
from tidemill.flow.stream.work import Work
from tidemill.model.errors import Unreachable
from tidemill.plan.lanes import origin_of, topics_before
from tidemill.ports.stream_engine import Place
from tidemill.ports.topic import Member, Partition, Reader, Topics

#: Seconds between two looks: silence is counted in seconds.
_EVERY = 0.25
#: Seconds from one sweep to the next.
_REST = 1.0
_MICROS = 1_000_000


class Silence:
    """Watches the lanes of a process's tasks.

    Args:
        plan: the stream.
        topics: the broker.
    """

    def __init__(self, plan: StreamPlan, topics: Topics) -> None:
        self._plan = plan
        self._topics = topics
        self._others = Others(plan)
        self._stamped = any(plan.stamps(stage) for stage in plan.topology.stages)
        self._patiences: dict[int, timedelta | None] = {}
        self._looked = self._swept = float("-inf")
        self._sweep: Sweep | None = None

    def begin(self, work: Work, now: float) -> None:
        """Listen to a task from now on."""
        work.listening = {place for partition in work.inputs for place in work.sources(partition)}
        work.heard = dict.fromkeys([*work.listening, *work.task.places()], now)

    def hear(self, work: Work, places: Iterable[Place], now: float) -> None:
        """Something has come to these places."""
        for place in places:
            if place in work.heard:
                work.heard[place] = now
                work.silent.discard(place)
                work.clocks.pop(place, None)

    def look(
        self, works: Collection[Work], reader: Reader, member: Member, counted: Mapping[Partition, int], now: float
    ) -> Iterator[Work]:
        """Move silent lanes on; gives the tasks from which something may have followed, or that others shall hear of.

        Args:
            works: at work in this process.
            reader: knows the ends of their partitions.
            member: knows what others have committed.
            counted: what this process has committed.
            now: seconds of the clock.
        """
        if not self._stamped or now - self._looked < _EVERY:
            return
        self._looked = now
        for work in works:
            self.hear(work, work.task.spoke(), now)
        quiet = [(work, place) for work in works for place in work.heard if self._is_quiet(work, place, now)]
        if not quiet:
            self._sweep = None
            return
        self._others.look(works, member, now)
        read = _read_to_their_ends(works, reader)
        sources = [one for one in quiet if self._is_source(one[1]) and one[1] in read]
        news = [work for work, place in sources if place not in work.silent]
        for work, place in sources:
            work.silent.add(place)
        times = Times.together([*map(Times.of, works), *self._others.times])
        news += [work for work, place in sources if self._raise(work, place, times, now)]
        news += self._behind_steps([one for one in quiet if not self._is_source(one[1])], times, counted, now)
        yield from {id(work): work for work in news}.values()

    def _behind_steps(
        self, quiet: list[tuple[Work, Place]], times: Times, counted: Mapping[Partition, int], now: float
    ) -> list[Work]:
        """Those among the tasks whose lanes behind steps went on."""
        if self._sweep is None:
            if any(self._may_go_on(work, place, times) for work, place in quiet) and now - self._swept >= _REST:
                self._sweep = Sweep(self._plan, self._topics, now, times)
            return []
        sweep = self._sweep
        try:
            if not sweep.look({**self._others.positions, **counted}):
                return []
        except Unreachable:  # lanes stay where they are, until a later sweep
            self._sweep, self._swept = None, now + LATER
            return []
        self._sweep, self._swept = None, now
        silent = [(work, place) for work, place in quiet if self._is_quiet(work, place, sweep.began)]
        news = [work for work, place in silent if place not in work.silent]
        for work, place in silent:
            work.silent.add(place)
        return news + [work for work, place in silent if self._raise(work, place, sweep.times, sweep.began)]

    def _raise(self, work: Work, place: Place, times: Times, now: float) -> bool:
        upto = times.upto
        if times.quiet and self._goes_with_clock(place):
            began, upto = work.clocks.setdefault(place, (now, upto))
            passed = int((now - began) * _MICROS)
            upto = {number: top + passed for number, top in upto.items()}
        return work.task.idle(place, upto)

    def _may_go_on(self, work: Work, place: Place, times: Times) -> bool:
        """Whether a lane that is quiet behind a step would go on, or be found silent, by a sweep."""
        if place not in work.silent or (times.quiet and self._goes_with_clock(place)):
            return True
        upto = times.upto
        tops = work.task.places()[place]
        return any(number in upto and (top is None or top < upto[number]) for number, top in tops.items())

    def _is_source(self, place: Place) -> bool:
        return self._plan.topology.nodes[place.node].kind == "source"

    def _is_quiet(self, work: Work, place: Place, now: float) -> bool:
        origin = origin_of(place.lane)
        if origin not in self._patiences:
            idle = [topic.idle for topic in topics_before(self._plan.topology, origin)]
            known = [one for one in idle if one is not None]
            self._patiences[origin] = max(known) if len(known) == len(idle) else None
        patience = self._patiences[origin]
        return patience is not None and now - work.heard[place] >= patience.total_seconds()

    def _goes_with_clock(self, place: Place) -> bool:
        topics = topics_before(self._plan.topology, origin_of(place.lane))
        return all(topic.on_idle == "clock" for topic in topics)


def _read_to_their_ends(works: Collection[Work], reader: Reader) -> set[Place]:
    """Sources of which there is nothing left to read, as far as is known."""
    ends = reader.ends()
    return {
        place
        for work in works
        for partition in work.inputs
        if work.positions[partition] >= ends.get(partition, work.positions[partition] + 1)
        for place in work.sources(partition)
    }
