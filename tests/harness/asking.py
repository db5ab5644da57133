"""A project whose task asks people, and schedulers that come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow import control
from tidemill.flow.inline import InlineExecutor
from tidemill.flow.scheduler import Scheduler
from tidemill.model.graph import WHOLE
from tidemill.model.instance import Due
from tidemill.model.run import Run
from tidemill.plan.values import load_value
from tidemill.ports.runstore import wish_json
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.performing import Performer
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings

FILE = """
import tidemill as tm
from tidemill.operators import AskOperator

with tm.DAG("sends"):
    @tm.task
    def count():
        return 3

    ask = AskOperator(
        task_id="ask", subject="Send {{ ti.xcom_pull(task_ids='count') }} letters?", options=["Yes", "No"],
        form={"why": tm.Param(type="string", minLength=2)}, timeout=3600,
    )
    count() >> ask
"""


class AskingMill:
    """A project with that file; its schedulers come and go."""

    def __init__(self, folder: Path) -> None:
        (folder / "sends.py").write_text(FILE)
        (folder / "tidemill.toml").write_text('[project]\nname = "mill"\npipelines = ["sends.py"]\n')
        self.folder = folder
        self.settings = load_settings(folder)
        metadata = open_metadata(self.settings, system_clock())
        assert isinstance(metadata, SqlMetadata)
        self.metadata = metadata
        self.performer = Performer(self.settings)
        parse_once(self.settings)

    def begin(self) -> Run:
        return control.trigger(self.metadata, "sends", system_clock().now(), run_key=None)

    def turn(self, run: Run, holder: str, until: Any) -> None:
        """A scheduler of that name drives the run until its `ask` is in a state, and goes away."""
        store = SqlRunStore(self.metadata, system_clock())
        scheduler = Scheduler(store, InlineExecutor(self.performer), system_clock(), store.definition, holder)
        for _ in range(50):
            scheduler.turn()
            with self.metadata.read() as tx:
                states = {task.task: task.state for task in tx.runs.tasks(run.id)}
                ended = tx.runs.get(run.id)
            if until in (states.get("ask"), ended and ended.state):
                break
        else:
            raise AssertionError(f"{states}, not {until}")
        store.release(holder)

    def wake(self, run: Run) -> None:
        """Let its `ask` go on though nobody has answered: the first time it is looked at."""
        with self.metadata.write() as tx:
            tx.events.add("wish", {**wish_json(Due(("ask", WHOLE))), "run_id": run.id}, system_clock().now())
        store = SqlRunStore(self.metadata, system_clock())
        scheduler = Scheduler(store, InlineExecutor(self.performer), system_clock(), store.definition, "wakes")
        before = self.tries(run)
        for _ in range(50):
            scheduler.turn()
            if self.tries(run) > before:
                break
        store.release("wakes")
        assert self.tries(run) == before + 1

    def tries(self, run: Run) -> int:
        """How often `ask` was begun."""
        with self.metadata.read() as tx:
            return next(task.tries for task in tx.runs.tasks(run.id) if task.task == "ask")

    def result(self, run: Run) -> Any:
        with self.metadata.read() as tx:
            return load_value(tx.xcoms.get(run.id, "ask") or "null")
