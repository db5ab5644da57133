"""Watchers of Airflow's assets: each is a pipeline, whose runs end when its trigger has seen something."""

from __future__ import annotations

import asyncio
import re
import sys
import textwrap
from contextlib import closing

import pytest

from harness.driving import AtOnce, dag, define, queue
from tidemill.adapters.localfs.code import CodeFolder
from tidemill.adapters.memory.pipelines import NotedPipelines
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.attending import Attendant
from tidemill.flow.control import trigger
from tidemill.flow.scheduler import Scheduler
from tidemill.flow.triggers import Surroundings
from tidemill.model.asset import TOLD
from tidemill.model.errors import TidemillError
from tidemill.model.graph import WHOLE, Node
from tidemill.model.instance import Deferred
from tidemill.plan.values import load_value
from tidemill.ports.xcoms import FIRED
from tidemill.testing.clock import ManualClock
from tidemill.wiring.attending import UserTriggers
from tidemill.wiring.parsing import code_versions
from tidemill.wiring.project import declared_in
from tidemill.wiring.services import open_metadata
from tidemill.wiring.settings import Settings
from tidemill.wiring.trials import try_dag

FILE = """
    from airflow.providers.standard.triggers.file import DirectoryFileDeleteTrigger, FileDeleteTrigger
    from airflow.sdk import DAG, Asset, AssetWatcher, task
    from airflow.triggers.base import BaseEventTrigger, TriggerEvent

    class Counts(BaseEventTrigger):
        def __init__(self, start):
            super().__init__()
            self.start = start

        def serialize(self):
            return "watched.Counts", {"start": self.start}

        async def run(self):
            yield TriggerEvent(self.start + 1)

    flag = Asset("s3://in/flag", watchers=[AssetWatcher("it", FileDeleteTrigger("FOLDER/flag", poke_interval=0.01))])
    eu = Asset("eu", watchers=[AssetWatcher("eu", DirectoryFileDeleteTrigger(directory="FOLDER", filename="eu"))])
    counts = Asset("counts", watchers=[AssetWatcher("one", Counts(3)), AssetWatcher("two", Counts(6))])

    with DAG("waits", schedule=(flag & eu) | counts):
        @task
        def go(): ...
        go()

    with DAG("waits_too", schedule=[flag]):
        @task
        def go(): ...
        go()
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    file = tmp_path / "watched.py"
    file.write_text(textwrap.dedent(FILE).replace("FOLDER", str(tmp_path)))
    monkeypatch.syspath_prepend(str(tmp_path))
    return declared_in(Settings(tmp_path, "x", ("*.py",)), file)


def test_each_watcher_is_a_pipeline_that_tells_its_asset(made, tmp_path):
    assert sorted(made) == ["counts__one", "counts__two", "eu__eu", "s3_in_flag__it", "waits", "waits_too"]
    (tmp_path / "flag").touch()
    (tmp_path / "eu").touch()
    told = {}
    for name in ("s3_in_flag__it", "eu__eu", "counts__two"):
        trial = try_dag(made[name], root=tmp_path).check()
        [note] = load_value(trial.services.xcoms.get(trial.run_id, "watch", TOLD))
        told[note["asset"]] = note["extra"]
    assert told == {
        "s3://in/flag": {"from_trigger": True, "payload": True},
        "eu": {"from_trigger": True, "payload": {"filepath": str(tmp_path / "eu")}},
        "counts": {"from_trigger": True, "payload": 7},
    }
    assert not (tmp_path / "flag").exists()


def test_a_watcher_that_is_gone_from_its_file_is_no_pipeline(made, tmp_path):
    file = tmp_path / "watched.py"
    file.write_text(re.sub("^eu = .*", 'eu = Asset("eu")', file.read_text(), flags=re.MULTILINE))
    assert "eu__eu" not in declared_in(Settings(tmp_path, "x", ("*.py",)), file)


def test_a_trigger_that_cannot_be_made_elsewhere_is_refused_with_its_place(tmp_path):
    file = tmp_path / "watched.py"
    file.write_text(textwrap.dedent(FILE).replace("FOLDER", "/x").replace('{"start": self.start}', '{"start": self}'))
    with pytest.raises(TidemillError, match="Counts") as caught:
        declared_in(Settings(tmp_path, "x", ("*.py",)), file)
    assert "watched.py:" in caught.value.where


def test_the_attendant_notes_what_a_trigger_has_seen(tmp_path):
    clock = ManualClock()
    store = SqlMetadata.temporary(clock)
    run = queue(store, define(store, dag("p", Node("watch")), clock), "p", clock)
    runs = SqlRunStore(store, clock, own_time=False)
    scheduler = Scheduler(runs, AtOnce(ends=lambda _: Deferred("x:first", {"start": 4})), clock, runs.definition, "a")
    for _ in range(3):
        scheduler.turn()

    async def first(start):
        return start + 1

    async def attend():
        about = Surroundings(clock, tmp_path, NotedPipelines())
        attendant = Attendant("x", store, clock, about, (), lambda: None, load=lambda *_: first)
        await attendant.look()
        while not fired():
            await asyncio.sleep(0.001)
        await attendant.close()

    def fired():
        with store.read() as tx:
            return tx.xcoms.get(run.id, "watch", FIRED, WHOLE)

    asyncio.run(attend())
    assert load_value(fired()) == {"value": 5}
    store.close()


def test_a_trigger_of_a_package_is_awaited_by_the_attendant_with_its_connections(tmp_path, monkeypatch):
    """Names that it imports while it is awaited are there, too."""
    package = tmp_path / "site" / "airflow" / "providers" / "acme" / "triggers.py"
    package.parent.mkdir(parents=True)
    package.write_text(
        textwrap.dedent("""
        from airflow.triggers.base import BaseEventTrigger, TriggerEvent

        class Asks(BaseEventTrigger):
            def serialize(self):
                return "airflow.providers.acme.triggers.Asks", {}

            async def run(self):
                from airflow.hooks.base import BaseHook
                yield TriggerEvent(BaseHook.get_connection("queue").host)
    """)
    )
    (tmp_path / "flags.py").write_text(
        textwrap.dedent("""
        from airflow.providers.acme.triggers import Asks
        from airflow.sdk import DAG, Asset, AssetWatcher

        with DAG("waits", schedule=[Asset("news", watchers=[AssetWatcher("w", Asks())])]): ...
    """)
    )
    monkeypatch.setenv("AIRFLOW_CONN_QUEUE", "sqs://somewhere")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    settings = Settings(tmp_path, "x", ("*.py",))
    made = declared_in(settings, tmp_path / "flags.py")["news__w"]
    with closing(open_metadata(settings, ManualClock())) as metadata:
        with metadata.write() as tx:
            code = code_versions(settings).keep(tmp_path, CodeFolder(tmp_path).scan()).name
            tx.definitions.keep([made.definition()], code, "flags.py", ManualClock().now())
        run = trigger(metadata, "news__w", ManualClock().now())
        with closing(UserTriggers(settings, metadata)) as triggers:
            first = triggers(run.id, "airflow.providers.acme.triggers:Asks.first")
            assert asyncio.run(first()) == "somewhere"
