"""The streams of an installation: which there are, by the parser's record, and the process that runs them.

parser -> definitions in the metadata database -> the process `streams` begins anew where they, or the code, change
  '-> a note in the state folder -> the root, which opens no database, has that process only where there are streams
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.model.errors import Conflict, TidemillError, Unreachable
from tidemill.wiring.settings import STATE_FOLDER, Settings

if TYPE_CHECKING:
    from tidemill.authoring.pipeline import Pipeline
    from tidemill.authoring.registry import Declared
    from tidemill.ports.metadata import Metadata

_log = logging.getLogger("tidemill")

#: The exit code of a process that ends because what it runs has changed.
CHANGED = 75
#: Seconds between two looks at the record.
_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Streams of one pipeline that are to run, of this version of the code."""

    pipeline: str
    file: str
    code: str
    streams: tuple[str, ...]


class WantedStreams:
    """What the parser has recorded; definitions that were read once are not read again."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._known: dict[int, tuple[str, ...]] = {}

    def look(self) -> tuple[Wanted, ...]:
        """The streams that are to run now."""
        with self._metadata.read() as tx:
            records = tx.definitions.pipelines()
            new = [record.definition_id for record in records if record.definition_id not in self._known]
            self._known |= {id_: found.streams for id_, found in tx.definitions.get_all(new).items()}
        return tuple(
            Wanted(record.name, record.file, record.code, streams)
            for record in records
            if (streams := self._known.get(record.definition_id, ()))
        )


class StreamNote:
    """The file by which the root knows whether there are streams."""

    def __init__(self, settings: Settings, metadata: Metadata) -> None:
        self._path = note_of(settings)
        self._wanted = WantedStreams(metadata)

    def write(self) -> None:
        """Bring the file up to date: it lists the streams, and is not there where there are none."""
        names = [f"{one.pipeline}.{stream}" for one in self._wanted.look() for stream in one.streams]
        if not names:
            self._path.unlink(missing_ok=True)
            return
        text = json.dumps(names)
        if not self._path.exists() or self._path.read_text("utf-8") != text:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(text, "utf-8")


def note_of(settings: Settings) -> Path:
    """Where the note is."""
    return settings.root / STATE_FOLDER / "streams.json"


def serve_streams(settings: Settings, stopping: Callable[[], bool]) -> int:
    """Run the streams that the parser has recorded, until `stopping`, or until they or their code have changed.

    Returns:
        The exit code; `CHANGED`: begin again, in a new process, as Python cannot unload code.
    """
    from tidemill.wiring.loading import own_process
    from tidemill.wiring.services import open_metadata, system_clock

    own_process()
    clock = system_clock()
    metadata = open_metadata(settings, clock)
    looking = WantedStreams(metadata)
    wanted, looked = looking.look(), clock.monotonic()
    changed = False

    def has_changed() -> bool:
        nonlocal changed, looked
        if not changed and clock.monotonic() - looked >= _LOOK:
            looked = clock.monotonic()
            with suppress(Conflict, Unreachable):
                changed = looking.look() != wanted
        return changed

    try:
        if not wanted:
            _log.info("no pipeline declares a stream")
            while not (stopping() or has_changed()):
                clock.sleep(_LOOK / 5)
        else:
            _run(settings, wanted, lambda: stopping() or changed, has_changed)
    finally:
        metadata.close()
    return CHANGED if changed and not stopping() else 0


def _run(
    settings: Settings, wanted: tuple[Wanted, ...], stopping: Callable[[], bool], has_changed: Callable[[], bool]
) -> None:
    from tidemill.wiring.streaming import Running

    with Running(settings, stopping, _log.error, again=True, version=max(one.code for one in wanted)) as running:
        begun = []
        for one, made in _loaded(settings, wanted):
            spec = made.spec()
            for name in one.streams:
                if name in spec.streams:
                    running.start(spec, spec.streams[name])
                    begun.append(f"{spec.name}.{name}")
        _log.info("%s running, process %d", ", ".join(begun) or "no stream", os.getpid())
        running.wait(has_changed)
        while not (begun or stopping()):  # nothing of it can be loaded: wait for other code
            has_changed()
            running.clock.sleep(_LOOK / 5)


def _loaded(settings: Settings, wanted: tuple[Wanted, ...]) -> list[tuple[Wanted, Pipeline]]:
    """The pipelines, each of its version of the code; what cannot be loaded is told, and the others go on."""
    from tidemill.authoring.pipeline import Pipeline as DataFirst
    from tidemill.wiring.parsing import code_settings
    from tidemill.wiring.project import declared_in

    found: list[tuple[Wanted, Pipeline]] = []
    files: dict[tuple[str, str], Mapping[str, Declared]] = {}
    before: Path | None = None
    for one in sorted(wanted, key=lambda one: (one.code, one.file)):
        try:
            at = code_settings(settings, one.code)
            if before not in (None, at.root):
                _forget(before)
            before = at.root
            if (one.code, one.file) not in files:
                files[one.code, one.file] = declared_in(at, at.root / one.file)
            made = files[one.code, one.file].get(one.pipeline)
            if isinstance(made, DataFirst):
                found.append((one, made))
        except TidemillError as error:
            _log.error("%s cannot be loaded: %s", one.file, error)
    return found


def _forget(root: Path) -> None:
    """Let modules of another version be imported under the same names; what was made of these goes on with them."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{root}{os.sep}"):
            del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path != str(root) and not path.startswith(f"{root}{os.sep}")]
    sys.path_importer_cache.clear()
