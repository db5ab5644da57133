"""Death at any moment: a run dies before and after every external effect, for every write mode, and nothing is lost.

Each case restores the same project, dies at one fault point in a process of its own, and recovers in another one.
The processes are forked from a server that has imported the libraries and run nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import crashing
from tidemill.testing.faults import DIED

pytestmark = pytest.mark.slow

# The server that processes are forked from looks for its modules here.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["harness.crashing"])
BEFORE, DAY = crashing.DAYS[:2], crashing.DAYS[2]


def process(target: object, *args: object, seconds: float = 120) -> int:
    """Run a function in a forked process; its exit code."""
    child = CONTEXT.Process(target=target, args=args)  # type: ignore[arg-type]
    child.start()
    child.join(seconds)
    assert child.exitcode is not None, "the process hangs"
    return child.exitcode


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Path]]:
    """A project with two days published, a copy of it, and a file for reports. Pointers are absolute addresses, so
    every case works in the one folder, restored from the copy.
    """
    base = tmp_path_factory.mktemp("crashes")
    root, copy, report = base / "project", base / "copy", base / "report.txt"
    crashing.write_feeds(root, crashing.DAYS)
    assert process(crashing.run_days, root, BEFORE, report) == 0, report.read_text(encoding="utf-8")
    shutil.copytree(root, copy)
    yield root, copy, report
    shutil.rmtree(base)


def test_death_at_every_effect_of_a_run_loses_and_doubles_nothing(prepared: tuple[Path, Path, Path]) -> None:
    root, copy, report = prepared
    assert process(crashing.run_days, root, [DAY], report) == 0, report.read_text(encoding="utf-8")
    effects = report.read_text(encoding="utf-8").splitlines()
    assert len(effects) > 100
    for at, effect in enumerate(effects):
        shutil.rmtree(root)
        shutil.copytree(copy, root)
        died = process(crashing.run_days, root, [DAY], report, at)
        assert died == DIED, f"at {effect}: {report.read_text(encoding='utf-8')}"
        code = process(crashing.recover, root, BEFORE, DAY, report)
        assert code == 0, f"died at effect {at} ({effect}): {report.read_text(encoding='utf-8')}"
