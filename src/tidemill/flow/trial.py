"""Running a whole DAG in one process, for tests: the scheduler's own book decides, nothing waits, nothing is kept.

The clock leaps to whatever is next: a retry, a sensor's next look.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tidemill.authoring.dag import DAG
from tidemill.authoring.task_context import TaskServices
from tidemill.flow.assets import told_of
from tidemill.flow.callbacks import tell_run
from tidemill.flow.handing import Handing
from tidemill.flow.perform import perform
from tidemill.flow.triggers import as_fired
from tidemill.model.asset import Told
from tidemill.model.definition import Definition
from tidemill.model.errors import RunFailed, UserError
from tidemill.model.graph import WHOLE, Graph, TaskKey
from tidemill.model.instance import Begun, Change, Deferred, Dispatched, Due, Ended, Failed, Outcome, Started
from tidemill.model.place import told
from tidemill.model.question import ANSWER, Question
from tidemill.model.run import RunInfo, RunState, TaskRun, TaskState
from tidemill.plan.decide import RunBook, Step
from tidemill.plan.dispatch import Dispatcher
from tidemill.plan.partitions import key_of
from tidemill.plan.question import answer_to
from tidemill.plan.values import load_value
from tidemill.ports.executor import Job
from tidemill.ports.tasks import AskedRun
from tidemill.ports.xcoms import FIRED, RETURNED

#: A trial ends at the latest after so many tries: a sensor that waits for ever would never let it.
MOST_TRIES = 10_000


@dataclass
class Trial:
    """What became of a trial.

    Args:
        dag: what was run.
        state: of the run: success, failed.
        states: of each task; of the instances of a mapped one as `task[0]`, `task[1]` ...
        tries: how often each was tried.
        errors: of those that failed, by the same names: the last one of each.
        order: in which they were tried.
        services: what its tasks reached. `run_id`: of the trial.
    """

    dag: DAG
    services: TaskServices
    run_id: int
    state: RunState = RunState.RUNNING
    states: dict[str, TaskState] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.state is RunState.SUCCESS

    def result(self, task: str, key: str = RETURNED, map_index: int | None = None) -> Any:
        """What a task handed over; of a mapped one the list of all instances', or one of them."""
        handing = Handing(self.dag, self.run_id, self.services)
        if map_index is not None:
            return handing.value(task, key, map_index)
        return handing.values(task, key) if handing.is_mapped(task) else handing.value(task, key)

    @property
    def xcoms(self) -> dict[str, Any]:
        """What each task returned, of those that returned something."""
        made: dict[str, Any] = {}
        for task in self.dag.task_dict:
            found = self.services.xcoms.get(self.run_id, task)
            several = self.services.xcoms.all(self.run_id, task)
            if found is not None or several:
                made[task] = load_value(found) if found is not None else [load_value(text) for _, text in several]
        return made

    @property
    def asked(self) -> list[AskedRun]:
        """The runs of other pipelines that its tasks have asked for; none of them was begun."""
        return list(getattr(self.services.pipelines, "asked", ()))

    def check(self) -> Trial:
        """Raise RunFailed, with the tasks' errors, unless it ended well; returns itself."""
        if not self.ok:
            errors = "".join(f"\n{name}: {error}" for name, error in self.errors.items())
            raise RunFailed(f'The trial of "{self.dag.name}" ended as {self.state}.{errors}', where=self.dag.place)
        return self

    def __repr__(self) -> str:
        width = max((len(name) for name in self.states), default=0)
        lines = [f"{self.dag.name}: {self.state}"]
        for name, state in self.states.items():
            more = f"  {self.tries[name]} tries" if self.tries.get(name, 0) > 1 else ""
            error = self.errors.get(name, "").partition("\n")[0] if state is TaskState.FAILED else ""
            lines.append(f"  {name:<{width}}  {state}{more}{'  ' + error if error else ''}")
        return "\n".join(lines)


def run_trial(
    dag: DAG,
    info: RunInfo,
    services: TaskServices,
    tasks: Collection[str] | None = None,
    answers: Mapping[str, Any] | None = None,
) -> Trial:
    """Run a DAG.

    Args:
        dag: what to run.
        info: the run.
        services: what its tasks reach; the clock's `sleep` must not wait.
        tasks: only these.
        answers: to what tasks ask people, by task: an option, a list of them, or `{"chosen": ..., "form": {...}}`.

    Raises:
        UserError: it never ends, or an answer does not fit.
        UnknownName: there is no such task, or option.
    """
    definition = dag.definition()
    graph = definition.graph
    if tasks is not None:
        graph = graph.only(dag.get_task(id_).task_id for id_ in tasks)
    return _Run(dag, definition, graph, info, services, answers or {}).run()


class _Run:
    """One trial under way."""

    def __init__(
        self,
        dag: DAG,
        definition: Definition,
        graph: Graph,
        info: RunInfo,
        services: TaskServices,
        answers: Mapping[str, Any],
    ) -> None:
        self._dag = dag
        self._definition = definition
        self._answers = answers
        self._info = info
        self._services = replace(services, standing=self._standing)
        self._book = RunBook(graph, dag.name)
        self._trial = Trial(dag, services, info.id)
        # Every pool is as large as what is asked of it: one task at a time runs anyway.
        pools = {node.pool: node.slots for node in sorted(graph.nodes.values(), key=lambda node: node.slots)}
        self._ready = Dispatcher(pools)
        self._queues = {node.queue: 1 for node in graph.nodes.values()}
        self._waits: list[tuple[datetime, TaskKey]] = []

    def run(self) -> Trial:
        """Begin, and go on until all has ended."""
        clock = self._services.clock
        tell_run(self._dag, "begun", self._info, self._services)
        end = self._take_in(self._book.apply(Begun(), clock.now()))
        while end is None:
            taken = self._ready.take(self._queues)
            if not taken:
                end = self._leap()
            for _, key in taken:
                end = self._try(key) or end
            if len(self._trial.order) > MOST_TRIES:
                raise UserError(
                    f'The trial of "{self._dag.name}" does not end: {MOST_TRIES:,} tries.',
                    where=self._dag.place,
                    hint="a sensor waits for what never comes: give it a timeout",
                )
        self._trial.state = RunState.SUCCESS if end is RunState.PUBLISHING else end
        self._finish()
        return self._trial

    def _try(self, key: TaskKey) -> RunState | None:
        clock, book = self._services.clock, self._book
        self._take_in(book.apply(Dispatched(key), clock.now()))
        instance = book.instances[key]
        number = instance.tries
        self._take_in(book.apply(Started(key, number), clock.now()))
        node = book.graph.nodes[key[0]]
        job = Job(
            self._info.id, 1, key, number, node.queue, clock.now() + timedelta(days=1), node.timeout, self._info,
            instance.failed,
        )  # fmt: skip
        name = _shown(key)
        self._trial.order.append(name)
        self._trial.tries[name] = self._trial.tries.get(name, 0) + 1
        outcome, report = perform(self._dag, job, self._services)
        self._services.xcoms.put(self._info.id, key[0], key[1], report.xcoms)
        if isinstance(outcome, Deferred):
            outcome = self._awaited(outcome, key)
        return self._take_in(book.apply(Ended(key, number, outcome), clock.now()))

    def _awaited(self, waits: Deferred, key: TaskKey) -> Outcome:
        """Await what a task defers to, here and at once; then the task goes on."""
        if waits.trigger == ANSWER:
            return self._asked(waits, key)
        import asyncio
        from importlib import import_module

        module, _, name = waits.trigger.partition(":")
        trigger: Any = import_module(module)
        for part in name.split("."):
            trigger = getattr(trigger, part)
        fired: dict[str, Any] = {}
        try:
            fired = as_fired(asyncio.run(trigger(**waits.arguments)))
        except Exception as error:
            fired["error"] = told(error)
        self._services.xcoms.put(self._info.id, key[0], key[1], [(FIRED, json.dumps(fired))])
        heapq.heappush(self._waits, (self._services.clock.now(), key))
        return waits

    def _asked(self, waits: Deferred, key: TaskKey) -> Outcome:
        """Answer what a task asks as the trial was told to; without that only the end of its time remains."""
        given = self._answers.get(key[0])
        if given is None:
            hint = f'dag.test(answers={{"{key[0]}": ...}})'
            if waits.timeout is not None:
                return waits
            return Failed(f"It asks a person, and nobody is there: {hint}", again=False)
        if not isinstance(given, Mapping):
            given = {"chosen": given}
        chosen, now = given.get("chosen", ()), self._services.clock.now()
        chosen = [chosen] if isinstance(chosen, str) else list(chosen)
        question = Question.from_json(waits.arguments)
        found = answer_to(question, chosen, given.get("form", {}), "test", now, anyone=True)
        self._services.xcoms.put(self._info.id, key[0], key[1], [(FIRED, json.dumps({"answer": found.as_json()}))])
        heapq.heappush(self._waits, (now, key))
        return waits

    def _leap(self) -> RunState | None:
        """Nothing can run now: go to the moment at which something can."""
        assert self._waits, f"nothing is ready and nothing waits: {self._book.instances}"
        due, key = heapq.heappop(self._waits)
        clock = self._services.clock
        clock.sleep(max((due - clock.now()).total_seconds(), 0.0))
        return self._take_in(self._book.apply(Due(key), clock.now()))

    def _take_in(self, step: Step) -> RunState | None:
        for change in step.changes:
            self._note(change)
            if change.after.due is not None:
                heapq.heappush(self._waits, (change.after.due, change.key))
            before = None if change.before is None else change.before.state
            if before is TaskState.RUNNING:
                self._ready.release(self._info.id, change.key)
        for key in step.ready:
            self._ready.add(self._info.id, self._dag.name, key, self._book.graph.nodes[key[0]])
        return step.end

    def _note(self, change: Change) -> None:
        if change.error:
            self._trial.errors[_shown(change.key)] = change.error

    def _finish(self) -> None:
        for id_ in self._book.graph.nodes:
            keys = sorted(key for key in self._book.instances if key[0] == id_)
            self._trial.states |= {_shown(key): self._book.instances[key].state for key in keys}
        event = "success" if self._trial.ok else "failure"
        bad = (TaskState.FAILED, TaskState.UPSTREAM_FAILED)
        cause = next((id_ for (id_, _), known in self._book.instances.items() if known.state in bad), None)
        tell_run(self._dag, event, self._info, self._services, cause, self._told() if self._trial.ok else ())

    def _standing(self, run_id: int) -> list[TaskRun]:
        known = self._book.instances.items()
        return [TaskRun(run_id, task, one.state, one.tries, map_index=index) for (task, index), one in known]

    def _told(self) -> list[Told]:
        """What its tasks have told of assets."""
        well = [key for key, known in self._book.instances.items() if known.state is TaskState.SUCCESS]
        key = key_of(self._definition.schedule, self._info.interval, self._info.conf)
        return told_of(self._services.xcoms, self._info.id, self._definition, well, key)


def _shown(key: TaskKey) -> str:
    return key[0] if key[1] == WHOLE else f"{key[0]}[{key[1]}]"
