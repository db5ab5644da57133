"""Waiting for something outside: `BaseSensor` looks again and again; `PythonSensor` asks a function.

mode "poke"        keeps its worker and sleeps between looks: for waits of seconds
mode "reschedule"  gives its worker back between looks: for waits of minutes and hours
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tidemill.authoring.arguments import as_length
from tidemill.authoring.signals import Defer, FailTask, Reschedule, SensorTimeout, SkipTask
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.operators.python import Decorated, arguments_for
from tidemill.ports.xcoms import FIRED

MODES = ("poke", "reschedule")
#: What a sensor remembers between looks, as an xcom: when it began, how often it has looked, whether it waits for a
#: trigger. Cleared with the task's other xcoms when the task is.
STATE = "_sensor"


class PokeReturnValue:
    """What `poke` may return: whether the wait is over, and then what the task returns."""

    def __init__(self, is_done: bool, xcom_value: Any = None) -> None:
        self.is_done = is_done
        self.xcom_value = xcom_value

    def __bool__(self) -> bool:
        return self.is_done


class BaseSensor(BaseOperator):
    """Looks by `poke` until that returns something that is true.

    Args:
        poke_interval: between looks; seconds or a timedelta.
        timeout: it waits no longer, from its first look on; seconds or a timedelta. It then fails, without another try.
        mode: "poke" or "reschedule".
        soft_fail: skip instead of failing when the time is over.
        silent_fail: a look that raises counts as one that saw nothing.
        exponential_backoff: each wait is twice as long as the one before, up to `max_wait`.
        options: those of every task.
    """

    kind = ""

    def __init__(
        self,
        *,
        poke_interval: float | timedelta = 60,
        timeout: float | timedelta = timedelta(days=7),
        mode: str = "poke",
        soft_fail: bool = False,
        silent_fail: bool = False,
        exponential_backoff: bool = False,
        max_wait: float | timedelta | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if mode not in MODES:
            raise UnknownName.of("mode of sensors", mode, MODES, where=self.place)
        self.poke_interval = as_length(poke_interval)
        self.timeout = as_length(timeout)
        if self.poke_interval < timedelta(0) or self.timeout < timedelta(0):
            raise DefinitionError(f'"{self.task_id}" waits for less than nothing.', where=self.place)
        self.mode = mode
        self.soft_fail = soft_fail
        self.silent_fail = silent_fail
        self.exponential_backoff = exponential_backoff
        self.max_wait = None if max_wait is None else as_length(max_wait)

    def poke(self, context: TaskContext) -> Any:
        """Look once: true or a `PokeReturnValue` once what is waited for is there."""
        return True

    def execute(self, context: TaskContext) -> Any:
        """Look, and wait, until it is there or the time is over."""
        clock, ti = context.services.clock, context["ti"]
        state: Mapping[str, Any] = ti.xcom_pull(key=STATE) or {}
        began: datetime = state.get("began") or clock.now()
        looks = int(state.get("looks", 0))
        while True:
            found = self._look(context)
            looks += 1
            if found:
                return found.xcom_value if isinstance(found, PokeReturnValue) else None
            wait = self._wait(looks)
            if clock.now() + wait > began + self.timeout and clock.now() >= began + self.timeout:
                raise self._over(clock.now() - began)
            # The last look is at the end of the time, not an interval before it.
            wait = min(wait, max(began + self.timeout - clock.now(), timedelta(0)))
            if self.mode == "reschedule":
                ti.xcom_push(STATE, {"began": began, "looks": looks})
                raise Reschedule(clock.now() + wait)
            clock.sleep(wait.total_seconds())

    def _look(self, context: TaskContext) -> Any:
        try:
            return self.poke(context)
        except (SkipTask, FailTask, Reschedule, Defer):
            raise
        except Exception:
            if not self.silent_fail:
                raise
            self.log.exception("this look failed and counts as one that saw nothing")
            return False

    def _wait(self, looks: int) -> timedelta:
        wait = self.poke_interval
        if self.exponential_backoff:
            # 2 ** 40 seconds is longer than any sensor waits; computing more would overflow.
            wait = timedelta(seconds=min(wait.total_seconds() * 2.0 ** min(looks - 1, 40), 10.0**9))
        return wait if self.max_wait is None else min(wait, self.max_wait)

    def _over(self, waited: timedelta) -> Exception:
        what = f'"{self.task_id}" has waited for {waited}, longer than {self.timeout}'
        return SkipTask(what) if self.soft_fail else SensorTimeout(what)


class PythonSensor(BaseSensor):
    """Asks a function until it returns something that is true.

    An `async def` function at the top of a module is not asked but awaited, once, in a loop that all of them share: it
    returns when what it waits for is there. It gets `op_kwargs`, which are JSON values then.

    Args:
        python_callable: the function.
        op_args, op_kwargs: its arguments; variables of the context come by name.
        options: those of `BaseSensor`.
    """

    kind = "python_sensor"
    template_fields: Sequence[str] = ("op_args", "op_kwargs")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.python_callable = python_callable
        self.op_args = tuple(op_args)
        self.op_kwargs = dict(op_kwargs or {})

    def execute(self, context: TaskContext) -> Any:
        """Wait."""
        if not inspect.iscoroutinefunction(self.python_callable):
            return super().execute(context)
        ti = context["ti"]
        state: Mapping[str, Any] = ti.xcom_pull(key=STATE) or {}
        if state.get("deferred") == ti.try_number:
            return self._after(ti.xcom_pull(key=FIRED), context.services.clock.now() - state["began"])
        function = self.python_callable
        if "<locals>" in function.__qualname__ or self.op_args:
            raise DefinitionError(
                f"{function.__qualname__}() cannot be awaited elsewhere.",
                where=self.place,
                hint="an async function at the top of a module, with arguments by name",
            )
        ti.xcom_push(STATE, {"deferred": ti.try_number, "began": context.services.clock.now()})
        ti.xcom_push(FIRED, None)
        raise Defer(f"{function.__module__}:{function.__qualname__}", self.op_kwargs, self.timeout)

    def _after(self, fired: Mapping[str, Any] | None, waited: timedelta) -> None:
        """The wait is over: it has happened, the function failed, or the time ran out."""
        if fired is None:
            raise self._over(waited)
        if fired.get("error") and not self.silent_fail:
            raise RuntimeError(f"{self.python_callable.__qualname__}() failed: {fired['error']}")

    def poke(self, context: TaskContext) -> Any:
        """Ask."""
        named = arguments_for(self.python_callable, self.op_args, self.op_kwargs, context)
        return self.python_callable(*self.op_args, **named)


class DecoratedSensor(Decorated, PythonSensor):
    """`@task.sensor`."""
