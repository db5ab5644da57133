"""Crawling a root, and keeping what was found as a pipeline's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.model.errors import ContractError, Refused, UserError
from tidemill.plan.crawl import CONTRACTS, Crawled, Drift, drift_of, source_of, table_name, yaml_of
from tidemill.wiring.places import open_place, split
from tidemill.wiring.secrets import connections_of
from tidemill.wiring.settings import Settings

_HEADING = "# Found by `tidemill data crawl {root}`, which adds to it when it runs again; comments are not kept.\n"


@dataclass(frozen=True, slots=True)
class Crawl:
    """What was found below a root.

    Args:
        root: its address, with a slash at its end.
        tables: what it has; some may be in trouble.
    """

    root: str
    connection: str | None
    tables: Sequence[Crawled]

    @property
    def usable(self) -> list[Crawled]:
        """The tables that can be read."""
        return [one for one in self.tables if not one.group.trouble]


def crawl_root(settings: Settings, root: str, connection: str | None, samples: int) -> Crawl:
    """List and sample what lies below a root.

    Args:
        settings: of the project.
        root: a folder in the project or in the connection's place, or an address: `s3://bucket/raw/`.
        connection: the name of one; None: none is needed.
        samples: so many files of each table are read.

    Raises:
        UserError: there is nothing. Unreachable, SettingsError, Refused: the place cannot be listed.
    """
    from tidemill.adapters.arrow.decoder import ArrowDecoder
    from tidemill.flow.crawl import crawl

    address, path = split(root)
    path = "" if path == "." else path.strip("/")
    if ".." in path.split("/"):
        raise Refused(f'"{root}" leaves the project.', hint="a folder inside it, or an address")
    with closing(open_place(address, connection, settings, connections_of(settings), root)) as place:
        tables = crawl(place, path, ArrowDecoder(), samples)
    if not tables:
        raise UserError(f'There are no files below "{root}".', hint="names that begin with _ or . are left out")
    begin = f"{address}/" if address else ""
    return Crawl(f"{begin}{path}/" if path else begin, connection, tables)


def pipeline_of(crawl: Crawl, name: str | None) -> str:
    """The name of the pipeline: what is asked for, or as the root is called."""
    return name or table_name(crawl.root.rstrip("/").rpartition("/")[2] or "raw")


def keep(crawl: Crawl, file: Path, name: str | None, drift: str, schedule: Mapping[str, str]) -> list[Drift]:
    """Write a pipeline's file, or add to one that is there; gives what has changed since.

    Args:
        crawl: what was found.
        file: of the pipeline.
        name: of the pipeline; None: as the root, or as the file says.
        drift: what happens to columns that change: `evolve` takes them over, `ignore` leaves the file as it is, `fail`
            refuses.
        schedule: `schedule` and `start` of a new pipeline.

    Raises:
        ContractError: something has changed, and `drift` is `fail`. DefinitionError: the file is no pipeline's.
    """
    from tidemill.adapters.yaml.documents import YamlDocuments

    before: dict[str, Any] = {}
    if file.is_file():
        found: Any = YamlDocuments().read(file.read_text("utf-8"), str(file)).plain()
        if not isinstance(found, dict) or not isinstance(found.get("sources"), dict) or "pipeline" not in found:
            raise UserError("The file is there, and no pipeline with sources.", where=str(file), hint="--write OTHER")
        before = found
    document = before or {"pipeline": pipeline_of(crawl, name), **schedule, "sources": {}}
    if name is not None and document["pipeline"] != name:
        raise UserError(f'The file is of pipeline "{document["pipeline"]}".', where=str(file), hint="--write OTHER")
    sources: dict[str, Any] = document["sources"]
    changed: list[Drift] = []
    for one in crawl.usable:
        made = source_of(one, crawl.root, drift, crawl.connection)
        known = sources.get(one.group.name)
        if known is None:
            sources[one.group.name] = made
            continue
        differs = drift_of(one.group.name, known, made)
        if differs.changes:
            changed.append(differs)
        if drift == "evolve":
            known["columns"] = dict(differs.columns)
        known["contract"] = CONTRACTS[drift]
    if changed and drift == "fail":
        lines = [f"{one.table}: {change}" for one in changed for change in one.changes]
        raise ContractError(
            "The files differ from what is declared:\n  " + "\n  ".join(lines),
            where=str(file),
            hint="--drift evolve takes the columns over, --drift ignore leaves them out",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_HEADING.format(root=crawl.root) + yaml_of(document), "utf-8")
    return changed
