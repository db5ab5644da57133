"""What tasks hand to each other: reading it, and writing it, large values by reference.

The type of a value survives (`plan.values`); a value over 64 KB goes to the store of large values, and its address,
which names the content's hash, stands in its place.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tidemill.authoring.task_context import TaskServices
from tidemill.model.errors import LimitError
from tidemill.model.graph import WHOLE
from tidemill.plan.values import dump_value, load_value
from tidemill.ports.xcoms import RETURNED

if TYPE_CHECKING:
    from tidemill.authoring.dag import DAG
    from tidemill.flow.context import TryView

#: Larger values go by reference: as many bytes as a row of the database should have at most.
INLINE = 64 * 1024
#: A value beyond this is data, which belongs into a table.
LARGEST = 1024**3
#: What stands for a value that is elsewhere; `dump_value` writes no object of this key.
_REFERENCE = '{"$":"at","v":'
#: Values of upstream lists that a worker keeps decoded: instances of one mapped task ask for the same again and again.
_KEPT = 8
_decoded: OrderedDict[str, Any] = OrderedDict()


class Handing:
    """What the tasks of one run hand over, seen from one of them."""

    def __init__(self, dag: DAG, run_id: int, services: TaskServices) -> None:
        self._dag = dag
        self._run_id = run_id
        self._services = services

    # -- writing

    def check(self, value: Any, what: str) -> None:
        """Raise DataError where a value cannot be handed over: at the line that pushes it."""
        dump_value(value, what=what)

    def written(self, task: str, values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Keys and values as they are recorded.

        Raises:
            DataError: a value is of a type that cannot be handed over.
            LimitError: a value is too large.
        """
        return tuple((key, self._kept(task, key, value)) for key, value in values.items())

    def _kept(self, task: str, key: str, value: Any) -> str:
        what = f'What "{task}" {"returns" if key == RETURNED else f"hands over as {key!r}"}'
        text = dump_value(value, what=what)
        if len(text) <= INLINE // 4:  # no character takes more than four bytes
            return text
        content = text.encode()
        if len(content) > LARGEST:
            raise LimitError(
                f"{what} takes {len(content) / LARGEST:.1f} GB; at most 1 GB is handed from task to task.",
                hint='write it to a table, context.table("name").write(frame), or to a file, and return its address',
            )
        if len(content) <= INLINE or self._services.big is None:
            return text
        name = f"{self._run_id}/{task}-{hashlib.sha256(content).hexdigest()[:32]}.json"
        return f"{_REFERENCE}{json.dumps(self._services.big.put(name, content))}}}"

    # -- reading

    def pulled(self, ti: TryView, task: str, key: str, map_indexes: int | Iterable[int] | None, default: Any) -> Any:
        """See `TryView.xcom_pull`."""
        if task == ti.task_id and key in ti.pushed:
            return ti.pushed[key]
        if isinstance(map_indexes, int):
            return self.value(task, key, map_indexes, default)
        if map_indexes is not None:
            return [self.value(task, key, index, default) for index in map_indexes]
        if self._same_index(ti, task):
            return self.value(task, key, ti.map_index, default)
        if self.is_mapped(task):
            return self.values(task, key)
        return self.value(task, key, WHOLE, default)

    def value(self, task: str, key: str = RETURNED, index: int = WHOLE, default: Any = None) -> Any:
        """What one instance handed over."""
        text = self._services.xcoms.get(self._run_id, task, key, index)
        return default if text is None else self._loaded(text)

    def values(self, task: str, key: str = RETURNED) -> list[Any]:
        """What the instances of a mapped task handed over, in the order of their indexes."""
        return [self._loaded(text) for _, text in self._services.xcoms.all(self._run_id, task, key)]

    def count(self, task: str) -> int | None:
        """How many elements the result of a task has; None where it has none."""
        if self.is_mapped(task):
            return self._services.xcoms.count(self._run_id, task)
        found = self._elements(task)
        return None if found is None else len(found)

    def element(self, task: str, at: int) -> Any:
        """One element of a task's result. What is handed out is a copy: the next instance must not see changes."""
        if self.is_mapped(task):
            text = self._services.xcoms.nth(self._run_id, task, at)
            return None if text is None else self._loaded(text)
        found = self._elements(task)
        return copy.deepcopy(found[at]) if found is not None else None

    def is_mapped(self, task: str) -> bool:
        """Whether a task has instances."""
        from tidemill.authoring.mapping import MappedOperator

        made = self._dag.task_dict.get(task)
        if made is None:
            return False
        inside = made.task_group is not None and made.task_group.mapped_group() is not None
        return inside or isinstance(made, MappedOperator)

    def _same_index(self, ti: TryView, task: str) -> bool:
        """Whether the instance of the same index is meant: of the task itself, or within one mapped group."""
        other = self._dag.task_dict.get(task)
        if task == ti.task_id:
            return True
        if other is None or other.task_group is None or ti.task.task_group is None:
            return False
        scope = other.task_group.mapped_group()
        return scope is not None and scope is ti.task.task_group.mapped_group()

    def same_index(self, ti: TryView, task: str) -> bool:
        """See `_same_index`; for results that are arguments."""
        return self._same_index(ti, task)

    def _elements(self, task: str) -> list[Any] | None:
        text = self._services.xcoms.get(self._run_id, task)
        if text is None:
            return None
        if text not in _decoded:
            value = self._loaded(text)
            _decoded[text] = list(value.items()) if isinstance(value, dict) else value
            while len(_decoded) > _KEPT:
                _decoded.popitem(last=False)
        _decoded.move_to_end(text)
        found = _decoded[text]
        return list(found) if isinstance(found, tuple) else (found if isinstance(found, list) else None)

    def _loaded(self, text: str) -> Any:
        if text.startswith(_REFERENCE) and self._services.big is not None:
            text = self._services.big.get(json.loads(text)["v"]).decode()
        return load_value(text)
