"""Operators of one DAG with the systems outside that `TIDEMILL_CONN_...` lead to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.operating import Worker
from tidemill.adapters.system.secrets import EnvironmentSecrets
from tidemill.flow.handing import Handing
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.secrets import ProjectConnections, ProjectSecrets


class Reaching(Worker):
    """A worker that reaches outside."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        connections = ProjectConnections(ProjectSecrets([EnvironmentSecrets()]))
        outside = OutsideSystems(connections, root)
        self.services = replace(self.services, connections=connections, outside=outside)

    def plain(self, task: str, key: str = "return_value") -> Any:
        """A value that a task handed over, of plain types."""
        text = self.xcoms.get(7, task, key)
        return None if text is None else json.loads(text)

    def made(self, task: str) -> Any:
        """What a task returned, as other tasks get it."""
        return Handing(self.dag, 7, self.services).value(task)
