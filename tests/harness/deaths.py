"""A project on the eve of a run, which dies at one effect after another: before each it is as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness import crashing
from harness.forking import ran
from tidemill.testing.faults import DIED


class Eve:
    """A project with some days published, and the day that comes next.

    Pointers are absolute addresses, so every case works in the one folder, restored from a copy.
    """

    def __init__(self, base: Path, days: int) -> None:
        self.before, self.day = crashing.DAYS[:days], crashing.DAYS[days]
        self.root, self._copy, self._report = base / "project", base / "copy", base / "report.txt"
        crashing.write_feeds(self.root, crashing.DAYS)
        assert ran(crashing.run_days, self.root, self.before, self._report) == 0, self.told()
        shutil.copytree(self.root, self._copy)

    def restore(self) -> None:
        """Make the project as it was on the eve."""
        shutil.rmtree(self.root)
        shutil.copytree(self._copy, self.root)

    def told(self) -> str:
        """What the last process reported."""
        return self._report.read_text(encoding="utf-8") if self._report.exists() else "no report"

    def watched(self) -> str:
        """What a whole run did; see `crashing.run_watched`."""
        self.restore()
        assert ran(crashing.run_watched, self.root, self.day, self._report) == 0, self.told()
        return self.told()

    def effects(self) -> list[str]:
        """The names of a run's fault points, in their order."""
        self.restore()
        assert ran(crashing.run_days, self.root, [self.day], self._report) == 0, self.told()
        return self.told().splitlines()

    def die_and_recover(self, at: int) -> None:
        """Die at a fault point in a process, and recover in another one."""
        self.restore()
        assert ran(crashing.run_days, self.root, [self.day], self._report, at) == DIED, self.told()
        assert ran(crashing.recover, self.root, self.before, self.day, self._report) == 0, self.told()


def die_everywhere(eve: Eve) -> int:
    """Die at every effect of the run; how many there were."""
    effects = eve.effects()
    for at, effect in enumerate(effects):
        try:
            eve.die_and_recover(at)
        except AssertionError as error:
            error.add_note(f"died at effect {at} of {len(effects)}: {effect}")
            raise
    return len(effects)
