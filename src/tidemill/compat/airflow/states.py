"""What tasks note: `task_state_store` for the next try, `asset_state_store` for the next run that has to do with an
asset. It is kept at once, whatever becomes of the try.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from tidemill.authoring.place import here
from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.assets import asset_named
from tidemill.model.asset import ALIAS
from tidemill.model.errors import UserError
from tidemill.plan.values import dump_value, load_value

#: The key of the xcom that has all of it.
_KEY = "_states"
#: What is given as `retention=`: notes are there for as long as what they are of is on record, whatever is said.
NEVER_EXPIRE = timedelta.max


class States:
    """Values by key; subclasses say where they are."""

    def get(self, key: str, default: Any = None) -> Any:
        """A value, or another one where there is none."""
        raise KeyError(key)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Keep a value. Raises DataError: it is of a type that cannot be kept."""

    def delete(self, key: str) -> None:
        """Forget a value; one that is not there is no error."""

    def clear(self) -> None:
        """Forget all of them."""

    async def aget(self, key: str, default: Any = None) -> Any:
        """See `get`."""
        return self.get(key, default)

    async def aset(self, key: str, value: Any, *, retention: Any = None) -> None:
        """See `set`."""
        self.set(key, value)

    async def adelete(self, key: str) -> None:
        """See `delete`."""
        self.delete(key)

    async def aclear(self) -> None:
        """See `clear`."""
        self.clear()


class TaskStates(States):
    """Values of one instance of a task in one run; they stay when it is tried again, until it is cleared. They are kept
    with the xcoms of the run.

    Args:
        context: of the try.
    """

    def __init__(self, context: TaskContext) -> None:
        ti = context["ti"]
        self._xcoms = context.services.xcoms
        self._run, self._task, self._index = ti.run.id, ti.task_id, ti.map_index

    def _all(self) -> dict[str, Any]:
        text = self._xcoms.get(self._run, self._task, _KEY, self._index)
        found: dict[str, Any] = {} if text is None else load_value(text)
        return found

    def _keep(self, values: dict[str, Any]) -> None:
        text = dump_value(values, what=f'What "{self._task}" notes')
        self._xcoms.put(self._run, self._task, self._index, [(_KEY, text)])

    def get(self, key: str, default: Any = None) -> Any:
        """See `States`."""
        return self._all().get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """See `States`."""
        self._keep({**self._all(), key: value})

    def delete(self, key: str) -> None:
        """See `States`."""
        self._keep({name: value for name, value in self._all().items() if name != key})

    def clear(self) -> None:
        """See `States`."""
        self._keep({})


class StatesOfAsset(States):
    """Values of one asset, for all tasks that have it among their inlets or outlets.

    Args:
        context: of the try.
        asset: its name.
    """

    def __init__(self, context: TaskContext, asset: str) -> None:
        self._states = context.services.asset_states
        self._batch, self._asset = context["batch_id"], asset

    def _all(self) -> dict[str, str]:
        return {} if self._states is None else self._states.all(self._asset)

    def _change(self, values: Mapping[str, str | None]) -> None:
        if self._states is None:
            raise UserError(f'Nothing can be kept of "{self._asset}" here.', hint="a task of a project's run can")
        if values:
            self._states.change(self._asset, values, self._batch)

    def get(self, key: str, default: Any = None) -> Any:
        """See `States`."""
        text = self._all().get(key)
        return default if text is None else load_value(text)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """See `States`. Raises UserError for None, as under Airflow."""
        if value is None:
            raise UserError(f'"{key}" of "{self._asset}" cannot be None.', where=here() or None, hint="delete(key)")
        self._change({key: dump_value(value, what=f'"{key}" of "{self._asset}"')})

    def delete(self, key: str) -> None:
        """See `States`."""
        self._change({key: None})

    def clear(self) -> None:
        """See `States`."""
        self._change(dict.fromkeys(self._all()))


class StatesOfAssets(States):
    """`asset_state_store`: by inlet or outlet, what is kept of it; where there is but one, itself.

    Args:
        context: of the try.
        names: of the task's inlets and outlets.
    """

    def __init__(self, context: TaskContext, names: Sequence[str]) -> None:
        known = [name for name in dict.fromkeys(names) if not name.startswith(ALIAS)]
        self._task = context["ti"].task_id
        self._of = {name: StatesOfAsset(context, name) for name in known}

    def __getitem__(self, key: Any) -> StatesOfAsset:
        name = asset_named(key)
        if name not in self._of:
            raise self._error(
                f'"{name}" is no inlet or outlet of "{self._task}".', f"inlets=[{type(key).__name__}(...)]"
            )
        return self._of[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def _only(self) -> StatesOfAsset:
        if len(self._of) != 1:
            what = f'"{self._task}" has {len(self._of)} inlets and outlets: it must say of which it speaks.'
            raise self._error(what, "asset_state_store[ASSET].get(key)")
        return next(iter(self._of.values()))

    def _error(self, what: str, hint: str) -> UserError:
        return UserError(what, where=here() or None, hint=hint)

    def get(self, key: str, default: Any = None) -> Any:
        """See `States`."""
        return self._only().get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """See `States`."""
        self._only().set(key, value)

    def delete(self, key: str) -> None:
        """See `States`."""
        self._only().delete(key)

    def clear(self) -> None:
        """See `States`."""
        self._only().clear()
