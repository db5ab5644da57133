"""Port `source` on a Singer tap: one run of it serves all streams that a pipeline takes from it.

Lines are kept as they came, a stream's in its own feed. What a run has brought counts only when the tap has ended
well: what a tap that fails has written is thrown away, and the next run begins with the state of the last batch. So
there is no question which records belong to which state.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from tidemill.adapters.singer.lines import Run, runs_of
from tidemill.adapters.singer.process import TapProcess
from tidemill.adapters.singer.spool import PART_BYTES, Spool
from tidemill.model.batch import Bookmark
from tidemill.model.errors import DataError, Refused, RunFailed, SettingsError, TidemillError
from tidemill.model.masking import Masker
from tidemill.model.pipeline import SourceSpec
from tidemill.model.singer import (
    ACTIVATIONS,
    BATCHES,
    OTHERS,
    REFUSED,
    ROWS,
    SCHEMAS,
    FromEnvironment,
    SingerStream,
    Tap,
)
from tidemill.plan.row_versions import version_ending
from tidemill.plan.singer import Metric, chosen, entries, metric_of, names_of, read_rules
from tidemill.ports.environments import PythonEnvironments
from tidemill.ports.source import ExtractRequest, Piece

_log = logging.getLogger("tidemill.singer")
#: Names of settings whose values are hidden in logs, wherever they come from.
_SECRET = ("password", "secret", "token", "key", "credential", "passphrase")
#: Kinds of settings whose variables hold JSON.
_AS_JSON = ("integer", "boolean", "array", "object", "number")
_DISCOVERY = 600.0
_BOM = b"\xef\xbb\xbf"
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class TapSource:
    """The port `source` on a tap.

    Args:
        spec: the feed that is extracted for all.
        tap: which.
        root: the project's folder.
        environments: in which taps are installed.
        secret: the value of `env:NAME`.
        part_bytes: of lines in a part.
    """

    spec: SourceSpec
    tap: Tap
    root: Path
    environments: PythonEnvironments
    secret: Callable[[str], str]
    part_bytes: int = PART_BYTES

    def extract(self, request: ExtractRequest) -> TapExtraction:
        """Nothing runs before the pieces are asked for.

        Raises:
            Refused: it should stop at the end of a range that it has given before.
        """
        if request.until is not None:
            raise Refused(
                f"A tap cannot be told where to stop, so that batch {request.batch.id} cannot be extracted again.",
                where=self.spec.place,
                hint="tidemill replay loads again what is archived",
            )
        return TapExtraction(self, request)

    def command(self) -> list[str]:
        """The program. Its environment is made where it is not there.

        Raises:
            SettingsError: there is no such program.
            Unreachable: its packages could not be installed.
        """
        tap = self.tap
        within = self.environments.having(tap.packages, tap.python) / "bin" if tap.packages else None
        if "/" in tap.program or tap.program.endswith(".py"):
            file = (self.root / tap.program).resolve()
            if not file.is_file():
                raise SettingsError(f'There is no tap "{tap.program}".', where=tap.place, hint=f"looked for {file}")
            python = str(within / "python") if within else sys.executable
            return [python, str(file)] if file.suffix == ".py" else [str(file)]
        if within is None:
            return [tap.program]
        short = tap.program[max(tap.program.find("tap-"), 0) :]
        found = [within / name for name in (tap.program, short) if (within / name).is_file()]
        if not found:
            have = sorted(path.name for path in within.glob("tap[-_]*"))
            raise SettingsError(
                f'The packages of tap "{tap}" bring no program of that name.', where=tap.place,
                hint=f"executable={have[0]!r}" if have else "executable= names it",
            )  # fmt: skip
        return [str(found[0])]

    def told(self) -> tuple[dict[str, Any], dict[str, str], Masker]:
        """Config and environment of the tap with the values of `env:NAME`, and what hides secrets."""
        masker = Masker()

        def value(given: Any, name: str) -> Any:
            if isinstance(given, Mapping):
                return {key: value(each, str(key)) for key, each in given.items() if not _is_absent(each)}
            if isinstance(given, FromEnvironment):
                masker.add(text := os.environ[given.variable])
                return json.loads(text) if given.kind in _AS_JSON else text
            if isinstance(given, list | tuple):
                return [value(each, name) for each in given]
            if not isinstance(given, str):
                return given
            found = self.secret(given)
            if found != given or any(part in name.lower() for part in _SECRET):
                masker.add(found)
            return found

        try:
            config = value(self.tap.config, "")
            env = value(self.tap.env, "")
        except SettingsError as error:
            error.where = self.tap.place or error.where
            raise
        own = {
            name: text for name, text in os.environ.items()
            if not name.startswith("TIDEMILL_") and name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        }  # fmt: skip
        return config, {**own, "PYTHONUNBUFFERED": "", **env}, masker

    def discover(self, folder: Path) -> dict[str, Any]:
        """Ask the tap what it has.

        Args:
            folder: for its config, which others must not read.

        Raises:
            RunFailed: it failed, or gave no catalog.
        """
        config, env, masker = self.told()
        command = [*self.command(), "--config", str(_write(folder / "config.json", config)), "--discover"]
        try:
            done = subprocess.run(
                command, cwd=self.root, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DISCOVERY,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            why = "took too long" if isinstance(error, subprocess.TimeoutExpired) else f"cannot be started: {error}"
            raise RunFailed(f'The tap "{self.tap}" was asked what it has, and {why}.', where=self.tap.place) from None
        if done.returncode:
            last = masker.mask(done.stderr.decode("utf-8", "replace")).strip().splitlines()[-8:]
            raise RunFailed(
                f'The tap "{self.tap}" was asked what it has, and ended with exit code {done.returncode}.'
                + "".join(f"\n    {line}" for line in last),
                where=self.tap.place,
                hint="its config; or discover=False, if it has no catalog",
            )
        try:
            catalog = json.loads(done.stdout)
        except ValueError:
            raise RunFailed(f'The tap "{self.tap}" was asked what it has, and answered no JSON.', where=self.tap.place,
                            hint="discover=False, if it has no catalog") from None  # fmt: skip
        entries(catalog, self.tap.place)
        return dict(catalog)


def _is_absent(value: object) -> bool:
    return isinstance(value, FromEnvironment) and value.variable not in os.environ


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


class TapExtraction:
    """A running tap."""

    def __init__(self, source: TapSource, request: ExtractRequest) -> None:
        self._source = source
        self._tap = source.tap
        self._request = request
        self._stack = ExitStack()
        self._folder = Path()
        self._after: Bookmark = request.bookmark
        self._feeds: dict[str, str] = {}
        for name, feed in request.feeds.items():
            assert isinstance(feed.origin, SingerStream)
            self._feeds[feed.origin.stream] = name
        self._unknown: set[str] = set()
        self._refused = 0
        self._records = 0
        self._metrics: dict[str, float] = {}
        self._masker = Masker()

    @property
    def bookmark_after(self) -> Bookmark:
        """The last STATE; where the tap has sent none, what it began with."""
        return self._after

    def __enter__(self) -> TapExtraction:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tidemill-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Piece]:
        try:
            yield from self._pieces()
        except TidemillError as error:
            error.what = self._masker.mask(error.what)
            error.args = (error.what,)
            error.where = error.where or self._source.spec.place
            raise

    def _pieces(self) -> Iterator[Piece]:
        source, tap, folder = self._source, self._tap, self._folder
        config, env, self._masker = source.told()
        command = [*source.command(), "--config", str(_write(folder / "config.json", config))]
        if tap.catalog is not None or tap.discovers:
            catalog = dict(tap.catalog) if tap.catalog is not None else source.discover(folder)
            catalog = chosen(catalog, read_rules(tap.select), list(self._feeds), tap.metadata, tap.place)
            for stream, entry in entries(catalog, tap.place).items():
                if stream in self._feeds:
                    self._feeds.update(dict.fromkeys(names_of(entry), self._feeds[stream]))
            command += ["--catalog", str(_write(folder / "catalog.json", catalog))]
        if self._request.bookmark is not None:
            command += ["--state", str(_write(folder / "state.json", self._request.bookmark))]
        spool = Spool(folder, source.part_bytes)
        process = TapProcess(
            command, source.root, env, quiet_after=tap.quiet_after, largest=tap.largest, said=self._said,
            name=str(tap), place=source.spec.place,
        )  # fmt: skip
        first = True
        with process:
            for block in process.blocks():
                data = block.removeprefix(_BOM) if first else block
                first = False
                for run in runs_of(data):
                    yield from self._take(run, spool)
            yield from spool.end()
        counted = ", ".join(f"{name} {total:,.6g}" for name, total in self._metrics.items())
        _log.info("%s: %d records%s", tap, self._records, f" ({counted})" if counted else "")

    def _take(self, run: Run, spool: Spool) -> Iterator[Piece]:
        """Keep a run of lines where it belongs."""
        own = self._source.spec.name
        if run.type == "RECORD" and run.stream is not None:
            feed = self._feeds.get(run.stream)
            self._records += run.count
            if feed is None:
                self._tell_unknown(run.stream)
                yield from spool.write(own, OTHERS, ".jsonl.zst", run.data)
            else:
                yield from spool.write(feed, ROWS, f"{self._version(run)}.jsonl.zst", run.data)
            return
        feed = self._feeds.get(run.stream or "")
        if not run.type:
            self._count_refused(run)
            yield from spool.write(feed or own, REFUSED, ".txt", run.data)
        elif run.type == "SCHEMA" and feed is not None:
            yield from spool.write(feed, SCHEMAS, ".jsonl", run.data)
        elif run.type == "ACTIVATE_VERSION" and feed is not None:
            yield from spool.write(feed, ACTIVATIONS, f"{self._version(run)}.jsonl", run.data)
        elif run.type == "BATCH" and feed is not None:
            yield from spool.write(feed, OTHERS, ".jsonl.zst", run.data)
            for line in run.lines:
                yield from self._batch(feed, line, spool)
        else:
            yield from spool.write(feed or own, OTHERS, ".jsonl.zst", run.data)
            if run.type == "STATE":
                self._after = self._state(run.lines[-1])

    def _version(self, run: Run) -> str:
        """What the name of a part says of its version. Raises DataError: a table's column cannot hold it."""
        if run.version is not None and not -(2**63) <= run.version < 2**63:
            raise DataError(
                f'The tap "{self._tap}" calls a version of "{run.stream}" {run.version}, which has more than 64 bits.',
                where=self._tap.place,
            )
        return version_ending(run.version)

    def _state(self, line: bytes) -> Bookmark:
        try:
            message = json.loads(line)
            value: Bookmark = message["value"]
        except (ValueError, KeyError):
            raise DataError(
                f'The tap "{self._tap}" has written a STATE without a value: {_shown(line)}', where=self._tap.place
            ) from None
        return value

    def _batch(self, feed: str, line: bytes, spool: Spool) -> Iterator[Piece]:
        """Keep the files that a BATCH message names. Raises DataError: they are not of the kind that is known."""
        message = msgspec.json.decode(line)
        encoding = message.get("encoding") or {}
        if encoding.get("format") != "jsonl" or encoding.get("compression") not in (None, "none", "gzip"):
            raise DataError(
                f'The tap "{self._tap}" sends batches as {encoding}, and JSON Lines, packed by gzip or not, are known.',
                where=self._tap.place,
                hint='"batch_config": {"encoding": {"format": "jsonl", "compression": "gzip"}, ...}',
            )
        for address in message.get("manifest") or ():
            parts = urlsplit(str(address))
            path = Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
            if path is None or not (self._source.root / path).is_file():
                raise DataError(
                    f'The tap "{self._tap}" has put a batch at {address}, where no file is.', where=self._tap.place,
                    hint='"batch_config": {"storage": {"root": "file:///a/folder"}, ...}',
                )  # fmt: skip
            yield from spool.add(feed, BATCHES, path.name, self._source.root / path)

    def _count_refused(self, run: Run) -> None:
        self._refused += run.count
        if self._refused > self._tap.most_refused:
            raise DataError(
                f'The tap "{self._tap}" has written more than {self._tap.most_refused:,} lines that are no messages, '
                f"such as: {_shown(run.lines[0])}",
                where=self._tap.place,
                hint="what is not for its target belongs on its standard error; most_refused= allows more",
            )

    def _tell_unknown(self, stream: str) -> None:
        if stream not in self._unknown:
            self._unknown.add(stream)
            _log.warning('%s sends stream "%s", which no feed takes: it is archived, not loaded', self._tap, stream)

    def _said(self, line: str) -> str:
        """A line of the tap's log, into that of the task."""
        text = self._masker.mask(line)
        metric = metric_of(text)
        if metric is None:
            _log.info("%s: %s", self._tap, text)
        else:
            self._add(metric)
        return "" if metric is not None else text

    def _add(self, metric: Metric) -> None:
        name = f"{metric.name}{' s' if metric.kind == 'timer' else ''}"
        self._metrics[name] = self._metrics.get(name, 0.0) + metric.value
        _log.info("%s: %s", self._tap, metric)


def _shown(line: bytes) -> str:
    text = line[:_SHOWN].decode("utf-8", "replace")
    return repr(text) + (" ..." if len(line) > _SHOWN else "")
