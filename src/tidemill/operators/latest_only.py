"""Skipping what follows in runs for the past: a report that only makes sense for the newest interval."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.operators.branching import skip_everything_after


class LatestOnlyOperator(BaseOperator):
    """Skips the tasks right after it unless the run is that of the newest interval, or somebody began it by hand."""

    kind = "latest_only"
    decides = True

    def execute(self, context: TaskContext) -> Any:
        """Decide: between the end of this interval and the end of the next one, this one is the newest."""
        if context["dag_run"].external_trigger or context["interval"] is None:
            self.log.info("begun by hand: what follows runs")
            return
        now = context.services.clock.now()
        following = context["next_interval"]
        if context["data_interval_end"].astimezone(UTC) <= now and (
            following is None or now <= following.end.astimezone(UTC)
        ):
            return
        self.log.info("not the newest interval: what follows is skipped")
        skip_everything_after(context, whatever_its_rule=False)
