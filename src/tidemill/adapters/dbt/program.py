"""The program of the warm process: dbt's own interpreter runs this file, which knows nothing of Tidemill.

It reads requests from its standard input and answers on what was its standard output, each a line of JSON; what dbt or
a user's code prints goes to the standard error. It ends when nobody is at the other end, or asks for ten minutes.

Two things make dbt quick here: its modules (2 s) are imported once, and so is the manifest of a project parsed, again
only when a file has changed. A manifest is used for many runs, which dbt has not foreseen: what a run has compiled
stays in it, and a model on an ephemeral one then fails at its second run. So that is taken out before each.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

#: Seconds without a request, after which the process ends: it takes 130 MB.
_IDLE = 600.0
#: Not read: what dbt writes, and history.
_SKIPPED = frozenset({"target", "logs", ".git", ".venv", "venv", "__pycache__"})
_READ = (".sql", ".yml", ".yaml", ".csv", ".md", ".py", ".toml")
#: Databases that one process at a time may have open.
_SINGLE = frozenset({"duckdb", "sqlite"})
#: Events that say of each command what is so of all.
_QUIET = frozenset({"MainReportVersion", "AdapterRegistered", "FoundStats", "ConcurrencyLine", "Formatting",
                    "StatsLine", "EndOfRunSummary", "FinishedRunningStats", "ParsePerfInfoPath",
                    "UnableToPartialParse", "PartialParsingNotEnabled"})  # fmt: skip
_FLAGS = ["--no-version-check", "--no-send-anonymous-usage-stats", "--no-use-colors", "--log-level", "none"]
_FLAGS += ["--log-level-file", "none", "--no-use-colors-file"]


class Channel:
    """Requests in, answers out."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self.asked: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.busy = False
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, **answer: Any) -> None:
        """One line; events come from dbt's threads."""
        with self._lock:
            self._out.write(json.dumps(answer, default=str) + "\n")
            self._out.flush()

    def _listen(self) -> None:
        for line in sys.stdin:
            self.asked.put(json.loads(line))
        if self.busy:
            os._exit(0)  # nobody is there any more, and what dbt does now is for nobody
        self.asked.put(None)


class Project:
    """One dbt project, as it is parsed now.

    Args:
        given: `folder, profiles, target, state` and what is asked of it.
        channel: where events go.
    """

    def __init__(self, given: dict[str, Any], channel: Channel) -> None:
        self.folder = Path(given["folder"])
        self._channel = channel
        self._options = ["--project-dir", given["folder"], "--profiles-dir", given["profiles"]]
        self._options += ["--target", given["target"]] if given["target"] else []
        self._state = Path(given["state"])
        self._lane, self._held = _take_lane(self._state)
        self._stamp: tuple[Any, ...] = ()
        self._manifest: Any = None
        self._parsed_with: dict[str, Any] = {}
        self._sensitive = False

    # -- parsing

    def manifest(self, given: dict[str, Any]) -> Any:
        """The manifest of the project's files as they are now.

        It is parsed with values that stand for those of a run, so that runs of many intervals share it. Where the
        graph itself hangs on them (`alias`, `enabled` ...), each run has its own.
        """
        stamp = _stamps(self.folder, given["profiles"])
        if stamp != self._stamp:
            self._manifest = None
            self._sensitive = self._is_sensitive(_digest(self.folder), given)
            self._stamp = stamp
        wanted = given["vars"] if self._sensitive else given["parse_vars"]
        if self._manifest is None or wanted != self._parsed_with:
            self._manifest, self._parsed_with = self._parse(wanted, "target"), wanted
        return self._manifest

    def _is_sensitive(self, digest: str, given: dict[str, Any]) -> bool:
        """Whether another interval makes another graph: found by parsing with two, once for each state of the files.

        Where it does not, what was parsed first is the manifest: to parse takes a second, of a large project many.
        """
        known = self._state / "graphs-by-interval.json"
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(known.read_text("utf-8"))
            if found.get("digest") == digest:
                return bool(found["sensitive"])
        sensitive = False
        if _mentions(self.folder, given["interval_names"]):
            first = self._parse(given["parse_vars"], "target")
            sensitive = _shape(first) != _shape(self._parse(given["other_vars"], "other"))
            if not sensitive:
                self._manifest, self._parsed_with = first, given["parse_vars"]
        made = known.with_name(f".{known.name}.{os.getpid()}")
        made.write_text(json.dumps({"digest": digest, "sensitive": sensitive}), "utf-8")
        made.replace(known)
        return sensitive

    def _parse(self, values: dict[str, Any], target: str) -> Any:
        # Whole: what dbt remembers of files that are gone was seen to come back (a unit test of a deleted file, once).
        command = ["parse", "--no-partial-parse", "--vars", json.dumps(values)]
        done = self._invoke(command, None, target, write=target == "target")
        if done.exception is not None or done.result is None:
            raise Failure(_message(done.exception))
        return done.result

    # -- what is asked

    def graph(self, given: dict[str, Any]) -> dict[str, Any]:
        """Nodes and tests of the project, those that were selected."""
        manifest = self.manifest(given)
        chosen = ["ls", "--output", "json", "--output-keys", "unique_id", "--quiet", "--vars"]
        chosen += [json.dumps(given["parse_vars"])]
        for option in ("select", "exclude"):
            chosen += [f"--{option}", *given[option]] if given[option] else []
        done = self._invoke(chosen, manifest, "target", quiet=True)
        if done.exception is not None or done.result is None:
            raise Failure(_message(done.exception))
        ids = {json.loads(line)["unique_id"] for line in done.result}
        nodes = {**manifest.nodes, **manifest.sources, **manifest.unit_tests}
        return {
            "project": manifest.metadata.project_name,
            "adapter": manifest.metadata.adapter_type,
            "nodes": [_told(node, id_ in ids) for id_, node in nodes.items()],
        }

    def run(self, given: dict[str, Any]) -> dict[str, Any]:
        """Run one command on nodes of the project."""
        manifest = self.manifest(given)
        for id_ in given["nodes"]:
            if not any(id_ in kind for kind in (manifest.nodes, manifest.sources, manifest.unit_tests)):
                raise Failure(f'"{id_}" is not in the project any more.')
        _forget_compiled(manifest)
        run = given["run"]
        names = [_selector(manifest, id_) for id_ in given["nodes"]]
        command = [*run.split(), "--select", *names, "--vars", json.dumps(given["vars"])]
        if run in ("run", "seed", "test", "snapshot"):
            command += ["--threads", str(given["threads"])] if given["threads"] else []
        if run == "test":
            command += ["--indirect-selection", "empty"]
        if given["full_refresh"] and run in ("run", "seed"):
            command.append("--full-refresh")
        with self._alone(manifest.metadata.adapter_type):
            try:
                done = self._invoke(command, manifest, "target")
            finally:
                _let_go()
        results = [_result(one) for one in getattr(done.result, "results", None) or ()]
        return {"ok": done.success, "results": results, "error": None if done.success else _message(done.exception)}

    def _invoke(
        self, command: list[str], manifest: Any, target: str, *, write: bool = False, quiet: bool = False
    ) -> Any:
        from dbt.cli.main import dbtRunner

        folder = self._lane / target
        flags = [*_FLAGS, "--log-path", str(self._lane / "logs")]
        flags.append("--write-json" if write else "--no-write-json")
        hear = [] if quiet else [self._hear]
        return dbtRunner(manifest=manifest, callbacks=hear).invoke(
            [*flags, *command, *self._options, "--target-path", str(folder)]
        )

    def _hear(self, event: Any) -> None:
        info = event.info
        if info.level != "debug" and info.name not in _QUIET and info.msg.strip():
            self._channel.say(event=info.level, text=info.msg.rstrip())

    @contextlib.contextmanager
    def _alone(self, adapter: str) -> Any:
        """Wait for other processes of this computer that have the database, where it takes one at a time."""
        if adapter not in _SINGLE:
            yield
            return
        with (self._state / "database.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Failure(Exception):
    """What to tell the user."""


def _take_lane(state: Path) -> tuple[Path, Any]:
    """A folder that no other process writes to; what an earlier one has parsed there is of use."""
    state.mkdir(parents=True, exist_ok=True)
    for number in range(10_000):
        lane = state / f"lane-{number}"
        lane.mkdir(exist_ok=True)
        held = (lane / "lock").open("w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            continue
        return lane, held
    raise Failure(f"No folder is free in {state}.")


def _files(folder: Path) -> list[Path]:
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        found += [Path(at, name) for name in sorted(names) if name.endswith(_READ)]
    return found


def _stamps(folder: Path, profiles: str) -> tuple[Any, ...]:
    found = []
    for path in [*_files(folder), Path(profiles, "profiles.yml")]:
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(found)


def _digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in _files(folder):
        with contextlib.suppress(OSError):
            whole.update(str(path).encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _mentions(folder: Path, names: list[str]) -> bool:
    """Whether a file of the project asks for one of these variables."""
    wanted = re.compile(r"\bvar\s*\(\s*['\"](?:" + "|".join(names) + r")['\"]")
    return any(wanted.search(path.read_text("utf-8", "replace")) for path in _files(folder) if path.suffix != ".csv")


def _shape(manifest: Any) -> str:
    """What of a manifest decides which tables there are and what they hang on."""
    made = {}
    for id_, node in {**manifest.nodes, **manifest.sources, **manifest.unit_tests}.items():
        whole = node.to_dict(omit_none=True)
        made[id_] = {
            key: whole.get(key) for key in ("config", "depends_on", "relation_name", "alias", "schema", "tags")
        }
    return json.dumps([made, sorted(manifest.disabled)], sort_keys=True, default=str)


def _forget_compiled(manifest: Any) -> None:
    """Take out what an earlier run has compiled: see the module's text."""
    for node in manifest.nodes.values():
        if hasattr(node, "extra_ctes_injected"):
            with contextlib.suppress(AttributeError):  # of seeds it is fixed
                node.extra_ctes_injected = False
                node.extra_ctes = []
                node.compiled = False
                node.compiled_code = None
                node._pre_injected_sql = None


def _let_go() -> None:
    """Close DuckDB's file, which dbt keeps open, so that other processes can have it."""
    found = sys.modules.get("dbt.adapters.duckdb.connections")
    if found is not None:
        manager = found.DuckDBConnectionManager
        with manager._LOCK:
            if manager._ENV is not None:
                manager._ENV.close()
                manager._ENV = None


def _selector(manifest: Any, id_: str) -> str:
    """What selects exactly this node."""
    node = manifest.nodes.get(id_) or manifest.sources.get(id_) or manifest.unit_tests[id_]
    if id_ in manifest.sources:
        return f"source:{node.package_name}.{node.source_name}.{node.name}"
    return ".".join(node.fqn)


def _told(node: Any, chosen: bool) -> dict[str, Any]:
    """A node in a few words."""
    kind = str(getattr(node.resource_type, "value", node.resource_type))
    config = getattr(node, "config", None)
    tests = kind in ("test", "unit_test")
    freshness = getattr(node, "freshness", None) if kind == "source" else None
    return {
        "id": node.unique_id,
        "kind": kind,
        "name": f"{node.source_name}.{node.name}" if kind == "source" else _name(node),
        "chosen": chosen,
        "parents": list(node.depends_on_nodes) if hasattr(node, "depends_on_nodes") else [],
        "materialized": str(getattr(config, "materialized", "") or kind),
        "relation": None if tests else _relation(node),
        "file": node.original_file_path,
        "line": 1,
        "doc": getattr(node, "description", "") or "",
        "tags": list(getattr(node, "tags", ()) or ()),
        "package": node.package_name,
        "checks_freshness": bool(freshness and (freshness.warn_after or freshness.error_after)
                                 and (freshness.warn_after.count or freshness.error_after.count)),
    }  # fmt: skip


def _name(node: Any) -> str:
    version = getattr(node, "version", None)
    return node.name if version is None else f"{node.name}.v{version}"


def _relation(node: Any) -> str | None:
    """`database.schema.name`, unquoted; None of what has no table."""
    if not getattr(node, "relation_name", None):
        return None
    name = getattr(node, "identifier", None) or getattr(node, "alias", None) or node.name
    return ".".join(part for part in (node.database, node.schema, name) if part)


def _result(one: Any) -> dict[str, Any]:
    code = getattr(one.node, "compiled_code", None)
    response = one.adapter_response if isinstance(getattr(one, "adapter_response", None), dict) else {}
    return {
        "id": one.node.unique_id,
        "status": str(getattr(one.status, "value", one.status)),
        "message": _said(one),
        "rows": response.get("rows_affected"),
        "failures": getattr(one, "failures", None),
        "compiled": code,
        "compiled_path": getattr(one.node, "compiled_path", None) if code else None,
        "file": one.node.original_file_path,
        "seconds": one.execution_time,
    }


def _said(one: Any) -> str | None:
    """What dbt says of it; of a source how old it is."""
    age = getattr(one, "age", None)
    if age is None:
        message: str | None = one.message
        return message
    return f"{one.status}: its newest row is of {one.max_loaded_at}, {age / 3600:,.1f} hours ago"


def _message(error: BaseException | None) -> str:
    return str(error or "").strip() or "dbt did not say why"


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel()
    project: Project | None = None
    while True:
        try:
            given = channel.asked.get(timeout=_IDLE)
        except queue.Empty:
            return
        if given is None:
            return
        channel.busy = True
        os.chdir(given["folder"])  # again each time: the folder may have been replaced by another one of that name
        channel.say(begun=True)
        try:
            if project is None:
                project = Project(given, channel)
            channel.say(done=project.run(given) if "run" in given else project.graph(given))
        except Failure as failure:
            channel.say(failed=str(failure))
        except ImportError as error:
            channel.say(failed=f"{error}", missing=error.name or "dbt")
        except Exception as error:
            channel.say(failed=f"{type(error).__name__}: {error}")
        channel.busy = False


if __name__ == "__main__":
    main()
