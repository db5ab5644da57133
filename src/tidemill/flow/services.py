"""What the loops of `flow` are given: one adapter a port, chosen by wiring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidemill.flow.archive import Archive
from tidemill.model.pipeline import SourceSpec
from tidemill.ports.auditor import Auditor
from tidemill.ports.catalog import Catalog
from tidemill.ports.clock import Clock
from tidemill.ports.decoder import Decoder
from tidemill.ports.engine import SqlEngine
from tidemill.ports.files import Files
from tidemill.ports.frame_engine import FrameEngine
from tidemill.ports.metadata import Metadata
from tidemill.ports.policies import ColumnPolicies
from tidemill.ports.records import RecordEncoder
from tidemill.ports.source import Source


@dataclass(frozen=True, slots=True)
class Services:
    """The adapters of one project.

    `holder` names this process (`host:pid:start`); `alive` tells whether another holder can still be running.
    """

    project: str
    metadata: Metadata
    archive: Archive
    lake: Files
    catalog: Catalog
    decoder: Decoder
    records: RecordEncoder
    frames: FrameEngine
    auditor: Auditor
    sql: SqlEngine
    source: Callable[[SourceSpec], Source]
    clock: Clock
    holder: str
    alive: Callable[[str], bool]
    policies: ColumnPolicies
    code_version: str | None = None
