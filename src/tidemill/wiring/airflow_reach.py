"""What the names of Airflow reach of a project: its connections, variables, pools and folders, and settings of DAGs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tidemill.compat.airflow.reach import Reach
from tidemill.plan.code import folder_of
from tidemill.wiring.secrets import connections_of, variables_of
from tidemill.wiring.settings import Settings

T = TypeVar("T", covariant=True)


class _Named(Protocol[T]):
    def get(self, name: str) -> T | None: ...


class _Later(Generic[T]):
    """Connections or variables that are looked for when one is asked for: most files ask for none."""

    def __init__(self, make: Callable[[], _Named[T]]) -> None:
        self._make = make
        self._made: _Named[T] | None = None

    def get(self, name: str) -> T | None:
        """One of them; None where there is none of that name."""
        if self._made is None:
            self._made = self._make()
        return self._made.get(name)


def reach_of(settings: Settings, code: Path | None = None) -> Reach:
    """What Airflow's names reach of a project; `code` is where its code lies, where that is a version of it."""
    connections, variables = partial(connections_of, settings), partial(variables_of, settings)
    code = code or settings.root
    return Reach(
        _Later(connections),
        _Later(variables),
        settings.airflow.of_dags(),
        home=settings.root,
        code=code,
        dags=code / folder_of(next(iter(settings.pipelines), "*")),
        pools=settings.pools,
    )
