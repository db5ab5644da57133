"""The pytest plugin `tidemill`: fixtures for tests of a user's own pipelines. Loads nothing until one is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tidemill.authoring.dag import DAG
    from tidemill.authoring.streams import Stream
    from tidemill.flow.trial import Trial
    from tidemill.testing.clock import ManualClock
    from tidemill.testing.stream import StreamTest


@dataclass(frozen=True)
class TestProject:
    """A project in a temporary folder, which is also the current one while the test runs."""

    #: Not a class of tests, whatever its name says.
    __test__ = False

    root: Path

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project: `write("pipelines/shop.py", "...")`."""
        made = self.root / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(text, "utf-8")
        return made

    def pipelines(self) -> Mapping[str, Any]:
        """Load the project's files; returns pipelines and DAGs by name."""
        from tidemill.authoring import registry
        from tidemill.wiring.project import load_pipelines
        from tidemill.wiring.settings import load_settings

        load_pipelines(load_settings(self.root))
        return registry.declared()


@pytest.fixture
def tidemill_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestProject]:
    """A temporary project with embedded defaults: metadata, archive and lake are in its folder."""
    from tidemill.authoring import registry

    (tmp_path / "tidemill.toml").write_text('[project]\nname = "test"\n', "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEMILL_PROJECT", str(tmp_path))
    modules, path = set(sys.modules), list(sys.path)
    registry.clear()
    yield TestProject(tmp_path)
    runner = sys.modules.get("tidemill.wiring.runner")
    if runner is not None:
        runner.close(tmp_path)
    registry.clear()
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(os.path.abspath(file)).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that the test advances."""
    from tidemill.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def stream_test(manual_clock: ManualClock) -> Callable[..., StreamTest]:
    """Runs a stream in memory: `stream_test(means)`, with time beginning at `manual_clock`; see `StreamTest`."""
    from tidemill.testing.stream import StreamTest

    def test(stream: Stream, **more: Any) -> StreamTest:
        return StreamTest(stream, **{"clock": manual_clock, **more})

    return test


@pytest.fixture
def run_dag(manual_clock: ManualClock, tmp_path: Path) -> Callable[..., Trial]:
    """Runs a DAG in this process: `run_dag(dag, "2026-01-15", params={...}, variables={...})`.

    As `DAG.test`, with time beginning at `manual_clock` and the project in a temporary folder. Further arguments are
    what tasks reach: `variables`, `connections`, `tables`, `pipelines`.
    """
    from tidemill.wiring.trials import try_dag

    def run(
        dag: DAG, interval: Any = None, params: Mapping[str, Any] | None = None, tasks: Any = None, **more: Any
    ) -> Trial:
        return try_dag(dag, interval, params, tasks, clock=manual_clock, **{"root": tmp_path, **more})

    return run
