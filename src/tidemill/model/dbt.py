"""What Tidemill knows of a dbt project: its nodes as dbt's manifest names them, in values that can be kept as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Kinds of nodes that make something, by dbt's command for each.
COMMANDS = {"model": "run", "seed": "seed", "snapshot": "snapshot"}
TESTS = ("test", "unit_test")


@dataclass(frozen=True, slots=True)
class DbtNode:
    """A node of a dbt project.

    Args:
        id: dbt's, `model.shop.orders`.
        kind: model, seed, snapshot, source, test, unit_test, or another of dbt's.
        name: `orders`; of a source `outside.orders`; of a version `orders.v2`.
        chosen: whether it was selected.
        parents: ids of what it is made from, or of what it tests.
        materialized: table, view, incremental, ephemeral ...
        relation: the table that it is, `database.schema.name`; None: it is none.
        file: in the dbt project. `line`: in it.
        doc: its description.
        tags: dbt's.
        package: the dbt package that it is from.
        checks_freshness: of a source: it says how old it may be.
    """

    id: str
    kind: str
    name: str
    chosen: bool = True
    parents: tuple[str, ...] = ()
    materialized: str = ""
    relation: str | None = None
    file: str = ""
    line: int = 1
    doc: str = ""
    tags: tuple[str, ...] = ()
    package: str = ""
    checks_freshness: bool = False


@dataclass(frozen=True, slots=True)
class DbtGraph:
    """A dbt project's nodes.

    Args:
        project: its name.
        adapter: duckdb, postgres ...
        nodes: by id.
    """

    project: str
    adapter: str
    nodes: Mapping[str, DbtNode] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        nodes = [asdict(node) for node in self.nodes.values()]
        return {"project": self.project, "adapter": self.adapter, "nodes": nodes}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> DbtGraph:
        """What `as_json`, or the process that runs dbt, wrote."""
        made = {}
        for one in given["nodes"]:
            node = DbtNode(**{**one, "parents": tuple(one["parents"]), "tags": tuple(one["tags"])})
            made[node.id] = node
        return cls(given["project"], given["adapter"], made)
