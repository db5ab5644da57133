"""The attendant's process: deferred tasks wait in its loop, notices are sent from it."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tidemill.authoring import registry
from tidemill.compat.airflow.finder import serving
from tidemill.flow.attending import POLL, Attendant, Channel
from tidemill.flow.control import known
from tidemill.flow.delivering import Deliverer
from tidemill.flow.others import OtherPipelines
from tidemill.flow.posting import run_for
from tidemill.flow.triggers import Surroundings, UserTrigger, unknown_trigger
from tidemill.model.errors import SettingsError, UnknownName
from tidemill.ports.bell import Bell
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Event, Metadata
from tidemill.ports.notifier import Notifier
from tidemill.wiring.access import sender, signatures
from tidemill.wiring.airflow_reach import reach_of
from tidemill.wiring.connectors import open_inbox
from tidemill.wiring.delivering import mirrors, worker
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import NotifySettings, Settings

if TYPE_CHECKING:
    from tidemill.adapters.webhook.server import HookServer

#: Seconds that the callbacks of a pipeline's code may take.
_CALLBACK = 300


def attend_forever(settings: Settings, bell: Bell, stopping: Callable[[], bool], handle: int) -> int:
    """Attend until `stopping`; `handle` is readable when that has changed. Returns the exit code."""
    clock = system_clock()
    metadata = open_metadata(settings, clock)
    triggers = UserTriggers(settings, metadata)
    attendant = Attendant(
        settings.name,
        metadata,
        clock,
        Surroundings(clock, settings.root, OtherPipelines(lambda: metadata, clock, bell.ring)),
        channels_of(settings),
        bell.ring,
        partial(_call_back, settings, metadata),
        triggers,
    )
    deliverer = Deliverer(metadata, clock, worker(settings), declare=partial(mirrors, metadata, settings))
    try:
        hooks = _hooks(settings, metadata, clock, bell.ring)
        asyncio.run(_attend(attendant, deliverer, bell, stopping, handle, hooks))
    finally:
        triggers.close()
        bell.close()
        metadata.close()
    return 0


async def _attend(
    attendant: Attendant,
    deliverer: Deliverer,
    bell: Bell,
    stopping: Callable[[], bool],
    handle: int,
    hooks: HookServer | None,
) -> None:
    bell.listen()
    serving = asyncio.create_task(hooks.serve()) if hooks is not None else None
    try:
        while not stopping():
            await attendant.look()
            await deliverer.look()
            await asyncio.to_thread(bell.wait, POLL, (handle,))
    finally:
        await attendant.close()
        await deliverer.close()
        if hooks is not None and serving is not None:
            hooks.stop()
            await serving


def _hooks(settings: Settings, metadata: Metadata, clock: Clock, ring: Callable[[], None]) -> HookServer | None:
    """The server for calls from outside, where the settings want one."""
    if settings.hooks is None:
        return None
    try:
        from tidemill.adapters.webhook.server import HookServer
    except ImportError as error:
        raise SettingsError("[hooks] needs a web server.", hint='pip install "tidemill[web]"') from error
    pipelines = OtherPipelines(lambda: metadata, clock, ring)

    def begin(pipeline: str, key: str | None, conf: Mapping[str, Any]) -> Mapping[str, Any]:
        with metadata.read() as tx:
            _, definition = known(tx, pipeline)
        if not definition.schedule.webhook:
            raise UnknownName(f'Pipeline "{pipeline}" is not begun by calls.', hint='schedule="@webhook"')
        run_id = pipelines.trigger(pipeline, conf=conf, run_key=None if key is None else f"hook-{key}")
        with metadata.read() as tx:
            run = tx.runs.get(run_id)
        return {"run_id": run_id, "batch_id": run.batch_id if run is not None else None}

    inbox = open_inbox(settings)

    def keep(pipeline: str, source: str, key: str | None, body: bytes, named: bool) -> Mapping[str, Any]:
        with metadata.read() as tx:
            _, definition = known(tx, pipeline)
        if source not in definition.webhooks:
            error = UnknownName.of("webhook", source, definition.webhooks)
            error.what = f'Pipeline "{pipeline}" has no webhook "{source}".'
            raise error
        number = inbox.put(pipeline, source, key, body, clock.now(), named=named)
        if not definition.schedule.webhook:
            return {"number": number}  # its schedule begins the batch
        return {"number": number, "run_id": run_for(metadata, pipelines, pipeline, source, number, inbox.came(number))}

    signed = signatures(settings.hooks.token, metadata, clock) if settings.hooks.signed else None
    senders = {feed: sender(one.signed, one.token, metadata, clock) for feed, one in settings.hooks.feeds.items()}
    given = settings.hooks
    return HookServer(given.host, given.port, given.token, begin, keep, signed, senders)


class UserTriggers:
    """Async functions of users' code, from the version with which a run began; each version has modules of its own."""

    def __init__(self, settings: Settings, metadata: Metadata) -> None:
        self._settings = settings
        self._metadata = metadata
        self._modules: dict[Path, ModuleType] = {}
        #: Many sensors of one file begin to wait at once, each in a thread; the file is loaded once.
        self._loading = threading.Lock()
        #: Open from the first trigger of Airflow's on: it finds names, and connections, while it is awaited, too.
        self._served, self._serving = ExitStack(), False

    def __call__(self, run_id: int, name: str) -> UserTrigger:
        """A function of a run's code, by `module:name`. Raises UnknownName, ImportError."""
        from tidemill.wiring.importing import import_folders
        from tidemill.wiring.parsing import code_settings

        module, _, attributes = name.partition(":")
        with self._metadata.read() as tx:
            order = tx.runs.order(run_id)
            definition = tx.definitions.get(order.definition_id) if order is not None else None
        if order is None or definition is None:
            return unknown_trigger(run_id, name)
        root = code_settings(self._settings, order.code).root
        tail = Path(*module.split(".")).with_suffix(".py")
        folders = [str((root / definition.file).parent), *import_folders(replace(self._settings, root=root))]
        places = [path for folder in dict.fromkeys(folders) if (path := Path(folder, tail)).is_file()]
        with self._loading:
            if module.startswith("airflow.") or (places and b"airflow" in places[0].read_bytes()):
                self._serve()
            found: Any = self._load(places[0], folders) if places else importlib.import_module(module)
        for part in attributes.split("."):
            found = getattr(found, part)
        made: UserTrigger = found
        return made

    def close(self) -> None:
        """Nothing is awaited any more."""
        self._served.close()

    def _serve(self) -> None:
        if not self._serving:
            self._serving = True
            self._served.enter_context(serving(reach_of(self._settings)))

    def _load(self, file: Path, folders: Sequence[str]) -> ModuleType:
        if file not in self._modules:
            registry.clear()
            name = f"tidemill_code_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None
            assert spec.loader is not None
            made = importlib.util.module_from_spec(spec)
            paths = list(dict.fromkeys((*folders, str(file.parent))))
            sys.path[:0] = paths
            try:
                spec.loader.exec_module(made)
            finally:
                for path in paths:
                    sys.path.remove(path)
            self._modules[file] = made
        return self._modules[file]


def channels_of(settings: Settings) -> list[Channel]:
    """Where notices go, by the settings."""
    return [
        Channel(f"{one.kind} {number}", notifier_of(one), frozenset(one.events), frozenset(one.pipelines))
        for number, one in enumerate(settings.notify, 1)
    ]


def notifier_of(one: NotifySettings) -> Notifier:
    """The adapter of one `[[notify]]`."""
    if one.kind == "email":
        from tidemill.adapters.notify.mail import MailNotifier

        return MailNotifier(one.url, one.sender, one.to)
    from tidemill.adapters.notify.webhook import SlackNotifier, WebhookNotifier

    return (SlackNotifier if one.kind == "slack" else WebhookNotifier)(one.url, dict(one.headers))


def _call_back(settings: Settings, metadata: Metadata, event: Event) -> None:
    """Run the callbacks of the pipeline's code, in a process of their own: it is the user's, and may do anything."""
    run_id = event.payload.get("run_id")
    about = event.payload.get("event")
    if not isinstance(run_id, int) or about == "asked":
        return
    with metadata.read() as tx:
        order = tx.runs.order(run_id)
        definition = tx.definitions.get(order.definition_id) if order is not None else None
    word = {"late": "deadline", "notice": "begun" if about == "begun" else "success"}.get(event.kind, "failure")
    if definition is None or word not in definition.callbacks:
        return
    command = [sys.executable, "-m", "tidemill.wiring.callbacks", str(settings.root), str(run_id), word]
    try:
        subprocess.run(command, timeout=_CALLBACK, env=dict(os.environ), stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return  # its log says how far it came
