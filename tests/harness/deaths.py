"""A project on the eve of a run, which dies at one effect after another: before each it is as it was."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from harness import crashing
from harness.forking import ran
from harness.objectstore import ObjectStore, settings_in
from tidemill.testing.faults import DIED


class Eve:
    """A project with some days published, and the day that comes next.

    Pointers are absolute addresses, so every case works in the one folder, restored from a copy.

    Args:
        base: a folder.
        days: so many are published before.
        store: where lake and archive are instead of the folder, in a bucket of their own.
    """

    def __init__(self, base: Path, days: int, store: ObjectStore | None = None) -> None:
        self.before, self.day = crashing.DAYS[:days], crashing.DAYS[days]
        self.root, self._copy, self._report = base / "project", base / "copy", base / "report.txt"
        self._store, self._bucket = store, store.bucket() if store is not None else ""
        crashing.write_feeds(self.root, crashing.DAYS)
        if store is not None:
            (self.root / "tidemill.toml").write_text(settings_in(store, self._bucket), encoding="utf-8")
        assert ran(crashing.run_days, self.root, self.before, self._report) == 0, self.told()
        shutil.copytree(self.root, self._copy)
        self._objects = store.content(self._bucket) if store is not None else {}

    def restore(self) -> None:
        """Make the project as it was on the eve."""
        shutil.rmtree(self.root)
        shutil.copytree(self._copy, self.root)
        if self._store is not None:
            self._store.restore(self._bucket, self._objects)

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
        if not died(ran(crashing.run_days, self.root, [self.day], self._report, at), self.told(), at):
            return
        assert ran(crashing.recover, self.root, self.before, self.day, self._report) == 0, self.told()


def died(code: int, told: str, at: int) -> bool:
    """Whether a run died at an effect, as it must; False: it has ended well before, as it had fewer than the one whose
    effects were counted. A lease is renewed by the clock, so a run that takes long has some more.
    """
    if code == 0 and len(told.splitlines()) <= at:
        return False
    assert code == DIED, told
    return True


def some_of(effects: int, step: int) -> range:
    """Each `step`-th of so many effects, from one of the first on that is another one each time.

    With `TIDEMILL_DEATHS=all` each.
    """
    step = 1 if os.environ.get("TIDEMILL_DEATHS") == "all" else min(step, effects)
    return range(random.randrange(step), effects, step)


def die_at_effects(eve: Eve, step: int) -> tuple[int, int]:
    """Die at some of the effects of the run. Gives the number of deaths, and that of the first effect."""
    effects = eve.effects()
    assert len(effects) > 100, effects
    places = some_of(len(effects), step)
    for at in places:
        try:
            eve.die_and_recover(at)
        except AssertionError as error:
            error.add_note(f"died at effect {at} of {len(effects)}: {effects[at]}")
            raise
    return len(places), places.start
