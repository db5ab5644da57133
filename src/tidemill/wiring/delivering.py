"""Delivering what a project has published: from a command, after a run, and as a process of the attendant's."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.flow.delivering import Worker
from tidemill.model.delivery import EVERY, Delivery, DeliverySpec
from tidemill.ports.metadata import Metadata
from tidemill.wiring.glue_settings import mirrors_of, open_mirror
from tidemill.wiring.outside import OutsideSystems
from tidemill.wiring.secrets import connections_of, masker_of
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.flow.deliver import Report
    from tidemill.flow.services import Services

#: Seconds between two looks whether a delivery's process shall stop.
_LOOK = 0.2
_log = logging.getLogger("tidemill")


def deliver_all(services: Services, settings: Settings, specs: Iterable[DeliverySpec]) -> list[Report]:
    """Deliver now, one destination after another; an error is in its report, and on record."""
    from tidemill.flow.deliver import deliver
    from tidemill.flow.mirror import mirror
    from tidemill.wiring.schemas import kept_revisions

    connections = connections_of(settings)
    outside = OutsideSystems(connections, settings.root, settings)
    hide = masker_of(settings).mask
    catalog = partial(open_mirror, settings, connections)
    kept = partial(kept_revisions, settings)
    return [
        deliver(services, spec, outside.destination, hide, kept)
        if spec.mirror is None
        else mirror(services, spec, catalog, hide)
        for spec in specs
    ]


def mirrors(metadata: Metadata, settings: Settings) -> tuple[DeliverySpec, ...]:
    """The catalogs that show the lake, by the settings as they are now, which is noted."""
    specs = mirrors_of(settings)
    with metadata.read() as tx:
        known = [one.spec for one in tx.deliveries.all(EVERY)]
    if [one.as_json() for one in known] != [one.as_json() for one in specs]:
        with metadata.write() as tx:
            tx.deliveries.declare(EVERY, specs)
    return specs


def declared(services: Services, pipeline: str, specs: Iterable[DeliverySpec]) -> None:
    """Note what a pipeline delivers, as its file says it now."""
    with services.metadata.write() as tx:
        tx.deliveries.declare(pipeline, specs)


def of_record(services: Services, pipeline: str | None = None, to: str | None = None) -> list[Delivery]:
    """What is on record, of one pipeline, one destination, or all."""
    with services.metadata.read() as tx:
        return [one for one in tx.deliveries.all(pipeline) if to in (None, one.spec.to)]


def worker(settings: Settings) -> Worker:
    """What has a delivery done by a process of its own: the attendant loads no data library, and waits for nobody."""
    return partial(_deliver_apart, settings)


def _deliver_apart(settings: Settings, spec: DeliverySpec, stopping: threading.Event) -> str | None:
    command = [sys.executable, "-m", "tidemill.wiring.delivering", str(settings.root), spec.pipeline, spec.to]
    with subprocess.Popen(command, env=dict(os.environ), stdin=subprocess.DEVNULL) as process:
        while True:
            try:
                code = process.wait(_LOOK)
                break
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    process.terminate()
    return None if code == 0 else f"The process that delivered has ended with {code}."


def main(root: str, pipeline: str, to: str) -> int:
    """Do one delivery of a project, as it is on record."""
    from tidemill.wiring.runner import close, services_of
    from tidemill.wiring.settings import load_settings

    settings = load_settings(Path(root))
    services = services_of(settings)
    try:
        for one in of_record(services, pipeline, to):
            for report in deliver_all(services, settings, [one.spec]):
                if report.error is not None:
                    error = masker_of(settings).mask(str(report.error))
                    _log.warning("%s is not delivered to %s, try %d: %s", pipeline, to, report.tries, error)
    finally:
        close(settings.root)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
