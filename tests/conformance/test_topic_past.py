"""A topic's archive over real brokers and real processes: Kafka that deletes records, archivers that get SIGKILL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import archive_worker, warm
from harness.examples import few
from harness.topics import Place, read
from tidemill.adapters.arrow.message_files import ParquetMessages
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.flow.archive import Archive
from tidemill.flow.stream.archiving import TopicArchiver
from tidemill.flow.stream.history import ArchivePast, TopicsWithPast
from tidemill.flow.stream.topic_archive import TopicArchives
from tidemill.model.errors import DataError
from tidemill.ports.topic import Messages, Partition, TopicSpec


def test_what_kafka_has_deleted_is_read_from_the_archive_and_then_kafka_at_the_next_offset(
    kafka_topics: Place, sqlite_template: Path, tmp_path: Path
) -> None:
    """Offsets have gaps, where transactions were marked and aborted; partitions are cut at different places."""
    place, clock = kafka_topics, SystemClock()
    topic = place.topic(2)
    zero, one = Partition(topic, 0), Partition(topic, 1)
    writer = place.writer("exactly-once")
    sent: dict[Partition, list[bytes | None]] = {zero: [], one: []}

    def send(many: int) -> None:
        for partition in (zero, one):
            values: list[bytes | None] = [b"%d" % (len(sent[partition]) + i) for i in range(many)]
            writer.send(topic, values, partitions=partition.number, keys=values)
            sent[partition] += values
        writer.commit({})
        writer.send(topic, [b"never"] * 3, partitions=0)
        writer.abort()

    url = f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'metadata.db')}"
    with SqlMetadata(url, "project", clock) as metadata:
        archives = TopicArchives(metadata, Archive(LocalFiles(tmp_path / "archive")), ParquetMessages(), clock)
        both = TopicsWithPast(place.topics, [ArchivePast(archives)])
        archiver = TopicArchiver(archives, place.topics, topic, timedelta(minutes=1), clock, f"{topic}.archive")
        for many in (40, 30):
            send(many)
            place.until(lambda: archiver.step(0.1, now=True) >= 0 and _complete(archives, sent, topic))
        archiver.close()
        send(20)
        end = archives.of(topic).end
        place.forget(zero, end[0] - 5)
        place.forget(one, end[1])
        info = place.topics.describe(topic)
        assert info is not None
        assert min(info.first) > 40, "the test is about messages that are removed"
        began = both.describe(topic)
        assert began is not None
        reader = both.reader()
        reader.take({zero: began.first[0], one: began.first[1]})
        found = read(place, reader, 180, limit=17)
        assert {partition: one.values for partition, one in found.items()} == sent
        assert all(sorted(set(one.offsets)) == one.offsets for one in found.values())
        assert reader.lost() == {}
        reader.take({one: 35})
        place.forget(one, end[1] + 3)  # while it is read from the archive: two that are in neither are told
        more = read(place, reader, 180 // 2 - 35 - 2)
        assert [v for v in more[one].values if v not in sent[one]] == []
        reader.close()


def _complete(archives: TopicArchives, sent: dict[Partition, list[bytes | None]], topic: str) -> bool:
    with archives._metadata.read() as tx:
        manifests = tx.archive.recent(pipeline=f"topic.{topic}")
    return sum(one.rows or 0 for one in manifests) == sum(map(len, sent.values()))


def test_an_archiver_that_is_killed_anywhere_leaves_each_offset_archived_once(
    sqlite_template: Path, tmp_path: Path
) -> None:
    """SIGKILL between the file, the manifest and the transaction: the next one goes on exactly there."""
    clock = SystemClock()
    url = f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'metadata.db')}"
    with SqlMetadata(url, "project", clock) as metadata:
        topics = SqlTopics(metadata, clock)
        topics.create(TopicSpec("t", 2))
        archives = TopicArchives(metadata, Archive(LocalFiles(tmp_path / "archive")), ParquetMessages(), clock)
        deaths, sent = [], 0
        writer = topics.writer("w")
        for at in (3, 4, 7, 2, 3):  # after a sealed manifest was left behind, the third effect is its transaction
            writer.send("t", [b"%d" % n for n in range(sent, sent + 10)], partitions=[0, 1] * 5)
            writer.commit({})
            sent += 10
            deaths.append(_killed(url, tmp_path / "archive", at))
        assert any(name.endswith(".parquet") and name.startswith("visible") for name in deaths), deaths
        assert any("manifest" in name and name.startswith("visible") for name in deaths), deaths
        assert "before commit" in deaths, deaths
        _worked(url, tmp_path / "archive")
        values = sorted(
            int(value or b"-1")
            for number in (0, 1)
            for _, batch in archives.read(Partition("t", number), 0)
            for one in batch
            for value in one.values
        )
        assert values == list(range(sent))
        with metadata.read() as tx:
            assert sum(one.rows or 0 for one in tx.archive.recent()) == sent


def _killed(url: str, folder: Path, at: int) -> str:
    """Let a process come to a fault point, and kill it there; gives the point's name."""
    with _process(url, folder, at) as process:
        assert process.stdout is not None
        told = process.stdout.readline().strip()
        process.kill()
        return told


def _worked(url: str, folder: Path) -> None:
    """Let a process take over what a dead one had sealed, and archive the rest."""
    with _process(url, folder, -1) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("done")
        process.kill()


def _process(url: str, folder: Path, at: int) -> warm.Child | subprocess.Popen[Any]:
    path = os.pathsep.join([str(Path(archive_worker.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return warm.started(
        [sys.executable, str(archive_worker.__file__), url, str(folder), str(at)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


# Files of messages

BYTES = st.one_of(st.none(), st.binary(max_size=20))
MESSAGES = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.one_of(st.just(-1), st.integers(-(2**62), 2**62), st.integers(0, 2**41)),
        BYTES,
        BYTES,
        st.lists(st.tuples(st.text(max_size=3).filter(lambda name: name.isprintable()), BYTES), max_size=2),
    ),
    max_size=20,
)  # fmt: skip


@settings(max_examples=few(60), deadline=None)
@given(parts=st.lists(MESSAGES, min_size=1, max_size=3), cuts=st.lists(st.integers(1, 7), min_size=1, max_size=9))
def test_nothing_of_a_message_is_lost_in_a_file(
    parts: list[list[Any]], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the stretches that it is written in: timestamps before 1970 too, only -1 means none."""
    files, file = ParquetMessages(), tmp_path_factory.mktemp("files") / "messages"
    stretches, wanted = [], []
    for number, messages in enumerate(parts):
        offset, rows = -1, []
        for gap, *rest in messages:
            offset += gap
            rows.append((offset, *rest))
        wanted.append(rows)
        at = 0
        while at < len(rows):
            some = rows[at : at + cuts[at % len(cuts)]]
            at += len(some)
            offsets, stamps, keys, values, headers = (list(column) for column in zip(*some, strict=True))
            stretches.append(
                Messages(Partition("t", number), offsets, stamps, keys, values, headers if any(headers) else None)
            )
    with file.open("wb") as out:
        assert files.write(out, stretches) == sum(map(len, wanted))
    for number, rows in enumerate(wanted):
        for start in {0, 3, *(row[0] for row in rows)}:
            with file.open("rb") as stream:
                found = []
                for one in files.read(stream, Partition("t", number), start):
                    kept = one.headers or [[]] * len(one)
                    found += zip(one.offsets, one.timestamps, one.keys, one.values, map(list, kept), strict=True)
            assert found == [row for row in rows if row[0] >= start]


def test_a_file_that_was_damaged_is_told(tmp_path: Path) -> None:
    file = tmp_path / "messages"
    file.write_bytes(b"PAR1 no more")
    with file.open("rb") as stream, pytest.raises(DataError, match=r"t\[0\]'s messages cannot be read"):
        next(ParquetMessages().read(stream, Partition("t", 0), 0))
