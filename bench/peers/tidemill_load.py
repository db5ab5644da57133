"""Tidemill: the whole path. Archive with hashes, batch id, whole-batch types, contract, Iceberg files, publish."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tidemill as tm

TABLES = {"": "bench.loaded", "items": "bench.loaded__items", "tags": "bench.loaded__tags"}


def linked(spec: dict[str, Any], work: Path) -> None:
    """Make `work` the project, with the input's files below it."""
    feeds = work / "feeds"
    feeds.mkdir()
    for file in map(Path, spec["files"]):
        try:
            os.link(file, feeds / file.name)
        except OSError:  # another file system
            shutil.copy(file, feeds / file.name)
    os.environ["TIDEMILL_PROJECT"] = str(work)
    os.chdir(work)


def load(spec: dict[str, Any], work: Path, variant: str) -> None:
    """Load the input as one batch; there is one variant."""
    linked(spec, work)
    pipeline = tm.Pipeline("bench")
    nested: dict[str, Any] = {"flatten": True, "key": "id"} if "items" in spec["tables"] else {}
    pipeline.files("feeds/*", name="loaded", **nested)
    pipeline.run("once")


def opened(spec: dict[str, Any], work: Path, variant: str) -> tuple[Callable[[str], list[Any]], dict[str, str]]:
    """A query function over what was published, and the tables' names."""

    def query(sql: str) -> list[Any]:
        return [tuple(row.values()) for row in tm.query(sql, project=work).to_arrow().to_pylist()]

    names = dict(TABLES)
    if "items" in spec["tables"]:
        renamed = "user_id as user__id, user_name as user__name, user_addr_city as user__addr__city"
        names[""] = f"(select *, {renamed}, user_addr_zip as user__addr__zip from bench.loaded)"
        names["items"] = "(select id as parent, * from bench.loaded__items)"
        names["tags"] = "(select id as parent, * from bench.loaded__tags)"
    return query, names
