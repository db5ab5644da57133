"""A process that archives an embedded topic: `python archive_worker.py URL FOLDER AT`. It is killed at an effect.

AT is the number of a fault point, or -1. It tells each point that it passes, and waits there where it is to die: so
SIGKILL ends it between one effect and the next.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from tidemill.adapters.arrow.message_files import ParquetMessages
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.flow.archive import Archive
from tidemill.flow.stream.archiving import TopicArchiver
from tidemill.flow.stream.topic_archive import TopicArchives
from tidemill.testing.faults import FaultPoints


def wait_for_death(name: str) -> None:
    """Tell where it is, and go no further."""
    print(name, flush=True)
    sys.stdin.read()


def main(url: str, folder: str, at: str) -> None:
    """Archive what there is."""
    clock = SystemClock()
    points = FaultPoints(int(at), wait_for_death)
    with SqlMetadata(url, "project", clock) as metadata:
        topics = SqlTopics(metadata, clock)
        archive = Archive(points.files(LocalFiles(Path(folder))))
        archives = TopicArchives(points.metadata(metadata), archive, ParquetMessages(), clock)
        group = f"group{at}"  # of its own: the next one need not wait until the session of a killed one is over
        archiver = TopicArchiver(archives, topics, "t", timedelta(minutes=1), clock, group)
        while not archiver.step(0.05, now=True):
            pass
        archiver.close()
        print(f"done {len(points.passed)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
