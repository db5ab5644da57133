"""Port `dbt`: what reads and runs dbt projects.

An adapter has dbt, of whatever version, somewhere that Tidemill's own packages do not meet it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tidemill.model.dbt import DbtGraph

#: Is told a line of dbt's: its level (`info`, `warn`, `error`) and its text.
Tell = Callable[[str, str], None]


@dataclass(frozen=True)
class DbtPlace:
    """A dbt project, and with what it is run.

    Args:
        folders: where it is: the first of them that has a `dbt_project.yml`.
        target: of its profile; None: the profile's own.
        profiles: the folder of `profiles.yml`; None: the project's, else where dbt looks for it.
        vars: dbt's variables.
        select, exclude: which of its nodes, in dbt's words.
        packages: what to install for it; empty: dbt-core and the adapters that its profiles name.
        python: an interpreter that has dbt; None: an environment is made.
        threads: of dbt within one task; None: the profile's.
    """

    folders: tuple[Path, ...]
    target: str | None = None
    profiles: Path | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    python: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class DbtCall:
    """One command on nodes of a project.

    Args:
        command: run, seed, snapshot, test, source freshness.
        nodes: their ids.
        vars: more variables: those of the run.
        full_refresh: make incremental models anew.
    """

    command: str
    nodes: tuple[str, ...]
    vars: Mapping[str, Any] = field(default_factory=dict)
    full_refresh: bool = False


@dataclass(frozen=True)
class DbtResult:
    """What became of one node.

    Args:
        id: dbt's.
        status: dbt's word: success, error, skipped, pass, fail, warn ...
        message: dbt's.
        rows: written, where the database says so.
        failures: of a test: rows that it found.
        compiled: the SQL that was run. `compiled_path`: the file that has it.
        file: of the node, in the project.
        seconds: that dbt took.
    """

    id: str
    status: str
    message: str | None = None
    rows: int | None = None
    failures: int | None = None
    compiled: str | None = None
    compiled_path: str | None = None
    file: str = ""
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Whether it failed."""
        return self.status not in ("success", "pass", "warn", "no-op", "partial success", "skipped")


class Dbt(Protocol):
    """Reads and runs dbt projects; not by two threads at the same time."""

    def graph(self, place: DbtPlace, *, timeout: float) -> DbtGraph:
        """The project's nodes. It is parsed only when its files have changed since somebody last asked.

        Raises:
            DefinitionError: there is no such project, or dbt cannot parse it: where, as dbt says.
        """
        ...

    def run(self, place: DbtPlace, call: DbtCall, tell: Tell) -> tuple[DbtResult, ...]:
        """Run a command; returns what became of each node, whether good or bad.

        Raises:
            RunFailed: dbt could not begin, or was ended.
        """
        ...

    def stop(self) -> None:
        """End what is being run now: `run` then raises."""
        ...

    def close(self) -> None:
        """End all processes."""
        ...
