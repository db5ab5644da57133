"""`AssetWatcher`: an asset is told when something happens outside. For each there is a pipeline of its own here.

trigger, awaited beside all others that wait -> the watching pipeline's run ends well -> the asset is told -> next run
"""

from __future__ import annotations

import asyncio
import glob
import json
import os
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidemill.authoring import registry
from tidemill.authoring.place import here
from tidemill.authoring.schedules import CONTINUOUS
from tidemill.authoring.signals import Defer
from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.assets import Asset
from tidemill.compat.airflow.dag import DAG
from tidemill.compat.airflow.deferring import BaseTrigger, TaskDeferralError, TriggerEvent
from tidemill.compat.airflow.task import BaseOperator
from tidemill.model.errors import DefinitionError
from tidemill.operators.sensors import STATE
from tidemill.ports.xcoms import FIRED

#: A trigger that fails is awaited again: after this, then twice as long, and so on, up to the longest.
_AGAIN_AFTER, _LONGEST = timedelta(seconds=10), timedelta(minutes=10)
_FOR_EVER = 1_000_000


@dataclass(frozen=True, eq=False)
class AssetWatcher:
    """What an asset has among its `watchers`.

    Args:
        name: unique for the asset.
        trigger: what is awaited again and again; each first event of it tells the asset.

    Raises:
        DefinitionError: the trigger cannot be made elsewhere by what it says of itself.
    """

    name: str
    trigger: Any

    def __post_init__(self) -> None:
        kind = type(self.trigger)
        try:
            json.dumps(self.arguments)
            whole = isinstance(self.trigger, BaseTrigger) and "<locals>" not in kind.__qualname__
        except (AttributeError, TypeError, ValueError):
            whole = False
        if not whole:
            raise DefinitionError(
                f'The trigger {kind.__qualname__} of watcher "{self.name}" cannot be awaited elsewhere.',
                where=here(),
                hint="a class at the top of a module, whose serialize() gives its arguments as JSON values",
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of the trigger."""
        return dict(self.trigger.serialize()[1])


class WatchOperator(BaseOperator):
    """Waits for the trigger of a watcher, without a worker, and tells its asset.

    Args:
        asset: it.
        watcher: see `AssetWatcher`.
        options: those of every task.
    """

    kind = "watch"

    def __init__(self, *, asset: Asset, watcher: AssetWatcher, **options: Any) -> None:
        super().__init__(
            outlets=[asset], retries=_FOR_EVER, retry_delay=_AGAIN_AFTER, retry_exponential_backoff=True,
            max_retry_delay=_LONGEST, **options,
        )  # fmt: skip
        self.asset = asset
        self.watcher = watcher

    def execute(self, context: TaskContext) -> Any:
        """Wait; then what the trigger has seen is the asset's news."""
        ti = context["ti"]
        state = ti.xcom_pull(key=STATE) or {}
        fired = ti.xcom_pull(key=FIRED)
        if state.get("deferred") != ti.try_number or fired is None:
            kind = type(self.watcher.trigger)
            ti.xcom_push(STATE, {"deferred": ti.try_number})
            ti.xcom_push(FIRED, None)
            raise Defer(f"{kind.__module__}:{kind.__qualname__}.first", self.watcher.arguments)
        if "error" in fired:
            raise TaskDeferralError(fired["error"])
        payload = fired.get("value")
        context["outlet_events"][self.asset].extra.update({"from_trigger": True, "payload": payload})
        return payload


def declare_watchers(assets: Iterable[Asset]) -> None:
    """Make the pipelines that watch some assets, unless they are there."""
    for asset in assets:
        for watcher in asset.watchers:
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{asset.name}__{watcher.name}").strip("_")
            if name not in registry.declared():
                made = DAG(name, f'Watches "{asset.name}".', CONTINUOUS)
                WatchOperator(task_id="watch", asset=asset, watcher=watcher, dag=made)


class FileTrigger(BaseTrigger):
    """A file, or a folder that is not empty.

    Args:
        filepath: a path, with `*` and `**`.
        recursive: `**` goes into folders.
        poke_interval: seconds between looks.
    """

    def __init__(
        self, filepath: str, recursive: bool = False, poke_interval: float = 5.0, **_options: Any
    ) -> None:  # as it is called there
        super().__init__()
        self.filepath = str(filepath)
        self.recursive = recursive
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger`."""
        arguments = {"filepath": self.filepath, "recursive": self.recursive, "poke_interval": self.poke_interval}
        return f"airflow.providers.standard.triggers.file.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """See `BaseTrigger`."""
        while not await asyncio.to_thread(self._is_there):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(True)

    def _is_there(self) -> bool:
        return any(
            os.path.isfile(path) or any(files for _, _, files in os.walk(path))
            for path in glob.glob(self.filepath, recursive=self.recursive)
        )


class FileDeleteTrigger(BaseTrigger):
    """A file, which is deleted when it is found.

    Args:
        filepath: its path.
        poke_interval: seconds between looks.
    """

    def __init__(self, filepath: str, poke_interval: float = 5.0, **_options: Any) -> None:
        super().__init__()
        self.filepath = str(filepath)
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger`."""
        arguments = {"filepath": self.filepath, "poke_interval": self.poke_interval}
        return "airflow.providers.standard.triggers.file.FileDeleteTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """See `BaseTrigger`."""
        while not await asyncio.to_thread(_taken, self.filepath):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(self.seen())

    def seen(self) -> Any:
        """What is told of it."""
        return True


class DirectoryFileDeleteTrigger(FileDeleteTrigger):
    """The same of a file in a folder.

    Args:
        directory: the folder.
        filename: the file's name.
        poke_interval: seconds between looks.
    """

    def __init__(self, *, directory: str, filename: str, poke_interval: float = 5.0) -> None:
        super().__init__(str(Path(directory, filename)), poke_interval)
        self.directory = directory
        self.filename = filename

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger`."""
        arguments = {"directory": self.directory, "filename": self.filename, "poke_interval": self.poke_interval}
        return "airflow.providers.standard.triggers.file.DirectoryFileDeleteTrigger", arguments

    def seen(self) -> Any:
        """See `FileDeleteTrigger`."""
        return {"filepath": self.filepath}


def _taken(path: str) -> bool:
    """Whether a file was there; it is not any more."""
    try:
        Path(path).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
