"""Port `installation` by the API of its server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidemill.adapters.server.asking import PAGE, Server, path
from tidemill.adapters.server.lake import ServerLake
from tidemill.adapters.server.streams import ServerStreams
from tidemill.model.backfill import BackfillState
from tidemill.model.batch import Interval
from tidemill.model.definition import Definition
from tidemill.model.errors import UserError
from tidemill.model.graph import TaskKey
from tidemill.model.run import RUN_ENDS, RunKind, RunState, TaskState
from tidemill.ports.asked import Facts
from tidemill.ports.clock import Clock
from tidemill.ports.http import HttpClient
from tidemill.ports.installation import Declared, ToClear, ToFill
from tidemill.ports.tasklogs import LogLine, LogPage, TryPlace

_MOVES = {BackfillState.PAUSED: "pause", BackfillState.RUNNING: "resume", BackfillState.CANCELLED: "cancel"}


class ServerPipelines:
    """Port `AskedPipelines`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def listed(self, strip: int) -> Facts:
        """Page by page; each has the files that cannot be read."""
        listed: list[Facts] = []
        cursor = None
        while True:
            page = self._server.get(path("pipelines"), limit=PAGE, cursor=cursor)
            listed += [_cut(one, strip) for one in page["pipelines"]]
            cursor = page["next"]
            if cursor is None:
                return {"pipelines": listed, "errors": page["errors"]}

    def one(self, name: str, strip: int) -> Facts:
        """What the list has of it, and the errors."""
        found = _cut(self._server.get(path("pipelines", name)), strip)
        more = ("params", "zone", "start", "end", "catchup", "max_active_runs", "streams")
        return {field: value for field, value in found.items() if field not in more}

    def declared(self, name: str) -> Declared:
        """Its definition, whole."""
        found = self._server.get(path("pipelines", name, "definition"))
        newest = Interval(*found["newest"]) if found["newest"] else None
        return Declared(Definition.from_json(found["definition"]), found["paused"], newest, found["seen_at"])

    def upcoming(self, name: str, limit: int) -> Facts:
        """Its next runs."""
        return self._server.get(path("pipelines", name, "next"), limit=limit)

    def pause(self, names: Sequence[str], paused: bool) -> None:
        """All, or none."""
        self._server.act(path("pipelines", "pause" if paused else "unpause"), {"pipelines": list(names)})


def _cut(found: Facts, strip: int) -> Facts:
    """With so many of its last runs."""
    return {**found, **{name: found[name][-strip:] for name in ("last_runs", "last_run_ids")}}


class ServerRuns:
    """Port `AskedRuns`."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    def listed(self, pipeline: str | None, state: RunState | None, limit: int | None) -> list[Facts]:
        """Newest first."""
        chosen = {"pipeline": pipeline, "state": state and state.value}
        listed = list(self._server.pages(path("runs"), "runs", limit, **chosen))
        if pipeline is not None and not listed:
            self._server.get(path("pipelines", pipeline, "grid"), limit=1)  # says so where there never was such a one
        return listed

    def one(self, run_id: int) -> Facts:
        """With its tasks and tries."""
        return self._server.get(path("runs", run_id))

    def has_ended(self, run_id: int) -> bool:
        """By its state."""
        return RunState(self.one(run_id)["state"]) in RUN_ENDS

    def begin(
        self, pipeline: str, *, interval: Interval | None, key: str | None, conf: Mapping[str, Any],
        only: Sequence[str], refetch: bool = False,
    ) -> Facts:  # fmt: skip
        """For its schedulers to run; without an interval and a key the time is the key, as it is there."""
        if interval is None and key is None:
            key = f"{RunKind.MANUAL}-{self._clock.now():%Y-%m-%dT%H:%M:%S.%f}"
        batch = {"run_key": key} if interval is None else {"interval": interval.start.isoformat()}
        body = {**batch, "params": conf, "tasks": list(only), "refetch": refetch}
        made = self._server.act(path("pipelines", pipeline, "runs"), body)
        run: Facts = made["run"]
        return run

    def cancel(self, run_id: int) -> None:
        """Ask for it."""
        self._server.act(path("runs", run_id, "cancel"))

    def preview_clearing(self, run_id: int, tasks: Sequence[str], *, downstream: bool) -> ToClear:
        """What `clear` would do."""
        body = {"tasks": list(tasks), "downstream": downstream}
        found = self._server.act(path("runs", run_id, "clear"), body, dry_run=True)
        attempt = self.one(run_id)["attempt"] + (not found["same_attempt"])
        return ToClear(run_id, tuple(found["tasks"]), attempt, found["same_attempt"], found["why"])

    def clear(self, what: ToClear) -> tuple[int, int]:
        """What was shown."""
        body = {"tasks": list(what.tasks), "downstream": False}
        found = self._server.act(path("runs", what.run_id, "clear"), body)
        return found["new_run_id"], found["attempt"]

    def mark(self, run_id: int, key: TaskKey, state: TaskState) -> tuple[int, int]:
        """And let what depends on it be judged anew."""
        task, index = key
        body = {"task": task, "state": state.value, **({"index": index} if index >= 0 else {})}
        found = self._server.act(path("runs", run_id, "mark"), body)["new_run_id"]
        return found, self.one(found)["attempt"]

    def questions(self) -> list[Facts]:
        """Oldest first."""
        found: list[Facts] = self._server.get(path("questions"))["questions"]
        return found

    def answer(self, run_id: int, key: TaskKey, chosen: Sequence[str], form: Mapping[str, Any]) -> Facts:
        """By whoever the token is of."""
        task, index = key
        body = {"task": task, "chosen": list(chosen), "form": dict(form), **({"index": index} if index >= 0 else {})}
        found = self._server.act(path("runs", run_id, "answer"), body)
        return {name: found[name] for name in ("chosen", "form", "by", "at")}


class ServerBackfills:
    """Port `AskedBackfills`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def listed(self, limit: int | None) -> list[Facts]:
        """Newest first."""
        return list(self._server.pages(path("backfills"), "backfills", limit))

    def one(self, backfill_id: int) -> Facts:
        """With its intervals."""
        return self._server.get(path("backfills", backfill_id))

    def preview(self, what: ToFill) -> list[Interval]:
        """What it would run."""
        return self._asked(what, {}, dry_run=True)[1]

    def begin(self, what: ToFill, conf: Mapping[str, Any]) -> tuple[int, list[Interval]]:
        """For its schedulers to run."""
        made, intervals = self._asked(what, conf, dry_run=False)
        if made is None:
            raise UserError("There is nothing to fill back.", hint="--policy failed, or --policy all")
        return made, intervals

    def _asked(self, what: ToFill, conf: Mapping[str, Any], *, dry_run: bool) -> tuple[int | None, list[Interval]]:
        body = {
            "pipeline": what.pipeline, "range": what.when, "policy": what.policy.value,
            "concurrency": what.concurrency, "newest_first": what.newest_first, "tasks": list(what.tasks),
            "params": conf,
        }  # fmt: skip
        found = self._server.act(path("backfills"), body, dry_run=dry_run)
        return found["backfill_id"], [Interval(*span) for span in found["spans"]]

    def move(self, backfill_id: int, state: BackfillState) -> None:
        """Pause it, go on with it, or cancel it."""
        self._server.act(path("backfills", backfill_id, _MOVES[state]))


class ServerLogs:
    """Port `AskedLogs`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def tries(self, pipeline: str, run_id: int) -> list[TryPlace]:
        """Those that have said something."""
        found = self._server.get(path("runs", run_id, "logs"), limit=1)["tries"]
        return [TryPlace(pipeline, run_id, one["task"], one["map_index"], one["number"]) for one in found]

    def read(self, place: TryPlace, offset: int = 0, limit: int = 1000) -> LogPage:
        """Some of its lines."""
        found = self._server.get(
            path("runs", place.run_id, "logs"), task=place.task, index=place.index, number=place.number,
            offset=offset, limit=limit,
        )  # fmt: skip
        return LogPage([LogLine(**line) for line in found["lines"]], found["offset"])


class ServerInstallation:
    """Port `Installation` of one that is elsewhere.

    Args:
        client: asks its host, and shows the token; it follows no redirection.
        name: what the server is called in messages.
        clock: the time here.
        version: of this side.
        note: is told what a person should know.
    """

    def __init__(self, client: HttpClient, name: str, clock: Clock, version: str, note: Callable[[str], None]) -> None:
        server = Server(client, name, version, note)
        self.pipelines = ServerPipelines(server)
        self.runs = ServerRuns(server, clock)
        self.backfills = ServerBackfills(server)
        self.logs = ServerLogs(server)
        self.lake = ServerLake(server)
        self.streams = ServerStreams(server, clock)
