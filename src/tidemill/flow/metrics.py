"""The metrics of an installation: what they are called, and how facts and records become their samples.

Nothing is counted here. Streams' processes tell facts (flow/stream/facts.py), brokers know offsets, runs are recorded;
this is the one place that says which of these numbers are shown under which name. docs/metrics.md is its table.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from tidemill.flow.stream.facts import ProcessFacts
from tidemill.flow.stream.lag import Lag
from tidemill.flow.stream.topic_archive import Archived
from tidemill.model.metric import Metric, Sample
from tidemill.model.run import RUN_ENDS, RunState
from tidemill.ports.metadata import Tx
from tidemill.ports.runs import WatchedRun

_OF_PROCESS = ("stream", "process")

READ = Metric(
    "tidemill_stream_messages_read_total", "counter",
    "Messages that a process has read, also those that it read again after going back to a checkpoint.",
    (*_OF_PROCESS, "stage", "topic"), "{message}",
)  # fmt: skip
WRITTEN = Metric(
    "tidemill_stream_rows_written_total", "counter",
    "Rows that a process has given to a sink; they count with the next checkpoint.",
    (*_OF_PROCESS, "sink"), "{row}",
)  # fmt: skip
LATE = Metric(
    "tidemill_stream_late_rows_total", "counter", "Rows that came too late, and were put aside.", _OF_PROCESS, "{row}"
)
FAILED = Metric(
    "tidemill_stream_failed_rows_total", "counter",
    "Messages and rows that could not be taken: dead letters, and those that were skipped.", _OF_PROCESS, "{row}",
)  # fmt: skip
LETTERS = Metric(
    "tidemill_stream_dead_letters_total", "counter", "Messages and rows that became dead letters.", _OF_PROCESS, "{row}"
)
LOST = Metric(
    "tidemill_stream_lost_messages_total", "counter",
    "Messages that were removed from a topic before they were read.", _OF_PROCESS, "{message}",
)  # fmt: skip
CHECKPOINTS = Metric(
    "tidemill_stream_checkpoint_seconds", "histogram",
    "What making a checkpoint took: saving state, the commit, and stores that follow it.", _OF_PROCESS, "s",
)  # fmt: skip
RESTARTS = Metric(
    "tidemill_stream_restarts_total", "counter",
    "How often a process went back to its last checkpoint, or began anew after an error.", _OF_PROCESS, "{restart}",
)  # fmt: skip
WATERMARK = Metric(
    "tidemill_stream_watermark_timestamp_seconds", "gauge",
    "The event time up to which a stage's input is believed to be complete; missing while there is none.",
    (*_OF_PROCESS, "stage"), "s",
)  # fmt: skip
STATE = Metric(
    "tidemill_stream_state_bytes", "gauge", "What a process's tasks remember, on its disk, about.", _OF_PROCESS, "By"
)
RECOVERED = Metric(
    "tidemill_stream_recovery_ratio", "gauge",
    "How much of a task's state has been read again from its changelog, while it is; else 1.", _OF_PROCESS, "1",
)  # fmt: skip
TASKS = Metric("tidemill_stream_tasks", "gauge", "Tasks that a process has.", _OF_PROCESS, "{task}")
PROCESSES = Metric(
    "tidemill_stream_processes", "gauge",
    "Processes of a stream by state; gone: it has fallen silent, and did not end as it should.",
    ("stream", "state"), "{process}",
)  # fmt: skip
LAG = Metric(
    "tidemill_stream_lag_messages", "gauge",
    "Messages that a partition holds and the stream has not committed yet, exchanges and rows for tables included.",
    ("stream", "topic", "partition"), "{message}",
)  # fmt: skip
ARCHIVE_LAG = Metric(
    "tidemill_topic_archive_lag_messages", "gauge",
    "Messages that a partition holds and the topic's archive does not have yet; missing while it has none.",
    ("topic", "partition"), "{message}",
)  # fmt: skip
ARCHIVED = Metric(
    "tidemill_topic_archived_batches_total", "counter", "Batches of raw messages in the topic's archive.",
    ("topic",), "{batch}",
)  # fmt: skip
RUNS = Metric("tidemill_runs", "gauge", "Runs that have not ended, by state.", ("pipeline", "state"), "{run}")
ENDED = Metric(
    "tidemill_runs_ended_total", "counter", "Runs that have ended since these metrics began to be looked at, by state.",
    ("pipeline", "state"), "{run}",
)  # fmt: skip
TASKS_OF_RUNS = Metric(
    "tidemill_tasks", "gauge", "Tasks of runs that have not ended, by state.", ("pipeline", "state"), "{task}"
)
QUEUED = Metric(
    "tidemill_queue_age_seconds", "gauge",
    "How long the oldest run that nobody has begun has waited; 0: none waits.", (), "s",
)  # fmt: skip
ANSWERED = Metric(
    "tidemill_metrics_source_up", "gauge",
    "Whether a source of these metrics has answered: metadata, topics. What it would have said is missing at 0.",
    ("source",), "{source}",
)  # fmt: skip

OF_PROCESSES = (READ, WRITTEN, LATE, FAILED, LETTERS, LOST, CHECKPOINTS, RESTARTS, WATERMARK, STATE, RECOVERED, TASKS)
#: What no process of a stream knows of itself.
OF_INSTALLATION = (PROCESSES, RUNS, ENDED, TASKS_OF_RUNS, QUEUED)
#: All, in the order in which they are shown.
METRICS = (*OF_PROCESSES, LAG, ARCHIVE_LAG, ARCHIVED, *OF_INSTALLATION, ANSWERED)

_STATES = ("running", "recovering", "failed", "gone")


def of_processes(told: Iterable[ProcessFacts], now: datetime) -> Iterator[Sample]:
    """What processes that are heard of have done, and where they are."""
    for one in told:
        if not one.is_live(now):
            continue
        key = (one.stream, one.process)
        yield from _of_nodes(one, key)
        yield Sample(LATE, key, one.late)
        yield Sample(FAILED, key, one.failed)
        yield Sample(LETTERS, key, one.letters)
        yield Sample(LOST, key, one.lost)
        yield Sample(CHECKPOINTS, key, one.seconds)
        yield Sample(RESTARTS, key, one.restarts)
        yield Sample(STATE, key, one.state_bytes)
        done, total = one.recovering or (1, 1)
        yield Sample(RECOVERED, key, done / total if total else 1.0)
        yield Sample(TASKS, key, len(one.tasks))


def _of_nodes(one: ProcessFacts, key: tuple[str, str]) -> Iterator[Sample]:
    read: dict[tuple[str, str], int] = {}
    written: dict[str, int] = {}
    marks: dict[int, list[datetime | None]] = {}
    for node in one.nodes.values():
        if node.reads:
            place = (str(node.stage), node.reads)
            read[place] = read.get(place, 0) + node.count
        elif node.writes:
            written[node.writes] = written.get(node.writes, 0) + node.count
        else:
            marks.setdefault(node.stage, []).append(node.watermark)
    for place, count in read.items():
        yield Sample(READ, (*key, *place), count)
    for sink, count in written.items():
        yield Sample(WRITTEN, (*key, sink), count)
    for stage, found in marks.items():
        known = [mark for mark in found if mark is not None]
        if len(known) == len(found):
            yield Sample(WATERMARK, (*key, str(stage)), min(known).timestamp())


def of_lag(lags: Mapping[str, Iterable[Lag]]) -> Iterator[Sample]:
    """What waits, by stream."""
    for stream, found in lags.items():
        for lag in found:
            yield Sample(LAG, (stream, lag.partition.topic, str(lag.partition.number)), lag.behind)


def of_archives(archives: Mapping[str, tuple[Archived, Iterable[Lag]]]) -> Iterator[Sample]:
    """How far topics are archived, by topic."""
    for topic, (archived, found) in archives.items():
        for lag in found:
            yield Sample(ARCHIVE_LAG, (topic, str(lag.partition.number)), lag.behind)
        yield Sample(ARCHIVED, (topic,), archived.batches)


def of_streams(told: Collection[ProcessFacts], declared: Iterable[str], now: datetime) -> Iterator[Sample]:
    """How many processes each stream has, those included that have none."""
    for stream in sorted({*declared, *(one.stream for one in told)}):
        states = [one.state if one.is_live(now) else "gone" for one in told if one.stream == stream]
        for state in _STATES:
            yield Sample(PROCESSES, (stream, state), states.count(state))


class RunWatch:
    """Watches runs come and go; threads may share it. The first look begins with those that have not ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: int | None = None
        self._live: dict[int, WatchedRun] = {}
        self._ended: dict[tuple[str, str], int] = {}

    def look(self, tx: Tx) -> list[int]:
        """See what has changed; gives the runs that have ended since the last look."""
        with self._lock:
            if self._newest is None:
                newest = tx.runs.recent(limit=1)
                self._newest = newest[0].id if newest else 0
                live = [run.id for state in RunState if state not in RUN_ENDS for run in tx.runs.recent(state=state)]
            else:
                live = list(self._live)
            found = tx.runs.watched(self._newest, live)
            self._newest = max([self._newest, *(run.run_id for run in found)])
            self._live = {run.run_id: run for run in found if run.state not in RUN_ENDS}
            ended = [run for run in found if run.state in RUN_ENDS]
            for run in ended:
                key = (run.pipeline, run.state.value)
                self._ended[key] = self._ended.get(key, 0) + 1
            return [run.run_id for run in ended]

    def samples(self, tx: Tx, now: datetime) -> list[Sample]:
        """Runs and their tasks, as of the last look."""
        with self._lock:
            live, ended = list(self._live.values()), dict(self._ended)
        states = Counter((run.pipeline, run.state.value) for run in live)
        waiting = [(now - run.created_at).total_seconds() for run in live if run.state is RunState.QUEUED]
        return [
            *(Sample(RUNS, key, count) for key, count in sorted(states.items())),
            *(Sample(ENDED, key, count) for key, count in sorted(ended.items())),
            *(Sample(TASKS_OF_RUNS, key, count) for key, count in tx.runs.task_counts().items()),
            Sample(QUEUED, (), max([0.0, *waiting])),
        ]
