"""`tidemill logs`: what tasks of a run have said, also while they run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import plain

if TYPE_CHECKING:
    from tidemill.ports.installation import AskedLogs
    from tidemill.ports.tasklogs import LogLine, TryPlace

_INSTANCE = re.compile(r"(?P<task>.+)\[(?P<index>\d+)\]")
_STYLES = {"ERROR": "bad", "CRITICAL": "bad", "WARNING": "warn", "DEBUG": "dim"}
#: Seconds between two looks at logs that are followed: a new line is seen so late at most.
_LOOK_EVERY = 0.2
#: Lines that are read at once.
_PAGE = 1000


@click.command(cls=Command, asks=True)
@click.argument("run_id", type=click.IntRange(min=1), metavar="RUN")
@click.argument("task", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until the run has ended.")
@click.option("--try", "number", type=click.IntRange(min=1), metavar="N", help="Of this try; else of all.")
@pass_invocation
def logs(invocation: Invocation, run_id: int, task: str | None, follow: bool, number: int | None) -> None:
    """Show what tasks of a run have said.

    TASK is a task's id, or one instance of a mapped task: load[3]. Without it, all tasks of the run.
    """
    installation = invocation.installation
    run = _looked_up(installation.runs.one(run_id), task)
    reading = _Reading(invocation, installation.logs, run["pipeline"], run_id, task, number)
    if invocation.json:
        invocation.out.object({"run_id": run_id, "lines": reading.objects()})
        return
    if not follow:
        reading.print_new()
        if not reading.seen:
            invocation.out.note(f"run {run_id} has said nothing{f' in {task}' if task else ''}")
        return
    from tidemill.wiring.services import system_clock

    clock = system_clock()
    while True:
        # In this order: what was said before the end is read after it.
        ended = installation.runs.has_ended(run_id)
        reading.print_new()
        if ended:
            return
        clock.sleep(_LOOK_EVERY)


def _looked_up(run: dict[str, Any], task: str | None) -> dict[str, Any]:
    """The run, if it has such a task. Raises UnknownName."""
    from tidemill.cli.runs import name_of
    from tidemill.model.errors import UnknownName

    known = {name_of(one) for one in run["tasks"]} | {one["task"] for one in run["tasks"]}
    if task is not None and task not in known:
        raise UnknownName.of("task", task, sorted(known), where=f"run {run['run_id']}")
    return run


class _Reading:
    """Reads the logs of a run from where the last look ended."""

    def __init__(
        self, invocation: Invocation, logs: AskedLogs, pipeline: str, run_id: int, task: str | None, number: int | None
    ) -> None:
        self._out = invocation.out
        self._logs = logs
        self._pipeline = pipeline
        self._run_id = run_id
        found = _INSTANCE.fullmatch(task or "")
        self._task = found["task"] if found else task
        self._index = int(found["index"]) if found else None
        self._number = number
        self._offsets: dict[TryPlace, int] = {}
        self._last: TryPlace | None = None
        self.seen = 0

    def _places(self) -> list[TryPlace]:
        return [
            place
            for place in self._logs.tries(self._pipeline, self._run_id)
            if (self._task is None or place.task == self._task)
            and (self._index is None or place.index == self._index)
            and (self._number is None or place.number == self._number)
        ]

    def new(self) -> list[tuple[TryPlace, LogLine]]:
        """Lines that were not given yet, each try's together."""
        found: list[tuple[TryPlace, LogLine]] = []
        for place in self._places():
            while True:
                page = self._logs.read(place, self._offsets.get(place, 0), _PAGE)
                self._offsets[place] = page.offset
                found += [(place, line) for line in page.lines]
                if len(page.lines) < _PAGE:
                    break
        return found

    def objects(self) -> list[dict[str, object]]:
        """Every line for programs."""
        return [
            {
                "task": place.task, "map_index": place.index, "try": place.number, "at": line.at, "level": line.level,
                "source": line.source, "text": line.text,
            }
            for place, line in self.new()
        ]  # fmt: skip

    def print_new(self) -> None:
        """Lines that were not shown yet, under a heading wherever another try speaks."""
        for place, line in self.new():
            if place != self._last:
                name = place.task if place.index < 0 else f"{place.task}[{place.index}]"
                self._out.line(self._out.styled(f"-- {name}, try {place.number}", "heading"))
                self._last = place
            at = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
            head, *more = [plain(text) for text in line.text.split("\n")]
            level = f"{line.level} " if line.level != "INFO" else ""
            self._out.line(f"{at}  {self._out.styled(level + head, _STYLES.get(line.level, 'null'))}" if level
                           else f"{at}  {head}")  # fmt: skip
            for text in more:
                self._out.line(f"              {text}")
            self.seen += 1
