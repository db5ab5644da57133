"""Promises of the port `live`, kept by every source that can look back: each message once, whatever dies when."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import services
from harness.deaths import some_of
from harness.livefeeds import SCRIPTS, Script
from harness.topics import Place, sql_place

#: Opens a fresh topic that is fed by the script's source.
Fresh = Callable[[], Script]


@pytest.fixture(params=sorted(SCRIPTS))
def fresh(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Iterator[Fresh]:
    """Scripts on embedded topics, each in a folder and a database of its own."""
    services.note_used(request, "SQLite", sqlite3.sqlite_version)
    opened: list[Script] = []
    places: list[Iterator[Place]] = []

    def make() -> Script:
        root = tmp_path / str(len(opened))
        root.mkdir()
        context = sql_place(f"sqlite:///{shutil.copy(sqlite_template, root / 'topics.db')}")
        script = SCRIPTS[request.param](context.__enter__(), root)
        places.append(context)  # type: ignore[arg-type]  # closed below
        opened.append(script)
        return script

    yield make
    for script in opened:
        script.close()
    for context in places:
        context.__exit__(None, None, None)  # type: ignore[attr-defined]


def test_everything_comes_once_and_in_order(fresh: Fresh) -> None:
    """What happened outside is in the topic; with its position beside it, which a later process goes on from."""
    script = fresh()
    script.play()
    assert script.rig.told == []
    assert script.came() == script.expected


def test_death_at_any_effect_loses_and_doubles_nothing(fresh: Fresh, request: pytest.FixtureRequest) -> None:
    """A process dies before or after it has sent messages, sent the position, or committed; another one goes on."""
    script = fresh()
    effects = script.play()
    assert effects > 8
    script.close()
    # There are six effects to a commit. Making the tables of a lake takes a second: there fewer deaths must do.
    places = some_of(effects, {"tail": 7, "custom": 11}.get(script.rig.topic.source.kind, 29))
    for at in places:
        script = fresh()
        script.play(dying_at=at)
        assert script.rig.deaths.passed > at, "it has died"
        assert script.rig.told == []
        assert script.came() == script.expected, f"death at effect {at}"
    services.tell(request, f"deaths of what feeds a topic from {script.rig.topic.source}: {len(places)}")
