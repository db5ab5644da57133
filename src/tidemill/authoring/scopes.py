"""Setup and teardown around tasks: `with teardown: ...` puts what is made within between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidemill.authoring.task import BaseOperator


class Scope:
    """The tasks of one `with` block of setups or teardowns.

    When the block ends, its first tasks come after the setups, and its last ones before the teardowns.
    """

    def __init__(self, around: list[BaseOperator]) -> None:
        self.setups = [one for one in around if one.is_setup]
        self.teardowns = [one for one in around if one.is_teardown]
        for teardown in self.teardowns:
            self.setups += [one for one in teardown.upstream_list if one.is_setup and one not in self.setups]
        for setup in [one for one in around if one.is_setup]:
            self.teardowns += [one for one in setup.downstream_list if one.is_teardown and one not in self.teardowns]
        self._tasks: list[BaseOperator] = []

    def add_task(self, task: BaseOperator) -> None:
        """A task belongs to the block; one that was made before it may be added by hand."""
        if task not in self._tasks and task not in self.setups and task not in self.teardowns:
            self._tasks.append(task)

    def close(self) -> None:
        """Set the order, now that all are known."""
        work = [one for one in self._tasks if not one.is_setup and not one.is_teardown]
        inside = {one.task_id for one in work}
        for task in work:
            if not inside.intersection(task.upstream_task_ids):
                for setup in self.setups:
                    setup.link(task)
            if not inside.intersection(task.downstream_task_ids):
                for teardown in self.teardowns:
                    task.link(teardown)
