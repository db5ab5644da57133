"""Port `asked` by the API of a server: its tables, branches, batches, results of checks, and SQL over them."""

from __future__ import annotations

from typing import Any

from tidemill.adapters.server.asking import PAGE, Server, path
from tidemill.adapters.server.values import typed_head, typed_row
from tidemill.model.errors import UnknownName
from tidemill.model.table import TableName
from tidemill.plan.table_names import meant_table
from tidemill.ports.asked import Facts, Head

#: What is told of a view in a list: the other fields are those of tables.
_OF_VIEWS = ("table", "kind", "branch", "schema")
#: Rows and failing rows that are asked for at once.
_ROWS = 1000


class ServerLake:
    """Port `AskedLake`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def branches(self, *, everything: bool) -> Facts:
        """Page by page, in the order of their names there, shown in that of their making."""
        listed = list(self._server.pages(path("branches"), "branches", all="true" if everything else None))
        listed.sort(key=lambda one: (one["kind"] != "main", one["created_at"], one["name"]))
        hidden = 0 if everything else self._server.get(path("branches"), limit=1)["hidden"]
        return {"branches": listed, "hidden": hidden}

    def create(self, name: str, source: str, *, tag: bool) -> Facts:
        """As its database has it then."""
        made = self._server.act(path("branches"), {"name": name, "source": source, "tag": tag})["branch"]
        return {field: value for field, value in made.items() if field != "changed"}

    def drop(self, name: str) -> None:
        """Its record stays there."""
        self._server.act(path("branches", name, "drop"))

    def diff(self, name: str, table: str | None, limit: int) -> Facts:
        """Row by row; values have their types again."""
        found = self._server.get(path("branches", name, "diff"), table=table, limit=limit)
        for one in found["tables"]:
            for row in one["rows"]:
                for part in ("key", "before", "after"):
                    row[part] = typed_row(row[part], one["types"])
        return found

    def merge(self, name: str) -> Facts:
        """All or nothing."""
        return _moved(self._server.act(path("branches", name, "merge")))

    def revert(self, batch_id: int) -> Facts:
        """On all its tables."""
        return _moved(self._server.act(path("batches", batch_id, "revert")))

    def tables(self, ref: str) -> list[Facts]:
        """Page by page."""
        listed = [_known(one) for one in self._server.pages(path("tables"), "tables", branch=ref, inputs="true")]
        return sorted(listed, key=lambda one: one["kind"] == "view")

    def table(self, text: str, ref: str, limit: int) -> tuple[Facts, Head]:
        """Its rows page by page."""
        name = self._meant(text, ref)
        about = _known(self._server.get(path("tables", name), branch=ref))
        first = self._server.get(path("tables", name, "rows"), branch=ref, limit=max(1, min(limit, _ROWS)))
        rows, cursor = list(first["rows"]), first["next"]
        while cursor is not None and len(rows) < limit:
            more = self._server.get(
                path("tables", name, "rows"), branch=ref, limit=min(limit - len(rows), _ROWS), cursor=cursor
            )
            rows += more["rows"]
            cursor = more["next"]
        return about, typed_head(first["columns"], rows[:limit])

    def failing(self, text: str, ref: str, limit: int) -> tuple[Facts, list[Head | None]]:
        """Up to a thousand of each check."""
        name = self._meant(text, ref)
        asked = max(1, min(limit, _ROWS))
        found = self._server.get(path("tables", name, "failing"), branch=ref, limit=asked)["checks"]
        kept = [None if one["rows"] is None else typed_head(one["columns"], one["rows"][:limit]) for one in found]
        checks = [{field: value for field, value in one.items() if field not in ("columns", "rows")} for one in found]
        return {"branch": ref, "table": name, "failed_checks": checks}, kept

    def history(self, text: str, ref: str, limit: int | None) -> Facts:
        """Page by page; ids are numbers here."""
        name = self._meant(text, ref)
        shown: list[Facts] = []
        cursor = None
        while True:
            left = PAGE if limit is None else min(PAGE, limit - len(shown))
            page = self._server.get(path("tables", name, "versions"), branch=ref, limit=left, cursor=cursor)
            shown += [_snapshot(one) for one in page["versions"]]
            cursor = page["next"]
            if cursor is None or (limit is not None and len(shown) >= limit):
                return {"branch": ref, "table": name, "snapshots": shown, "total": page["total"]}

    def batches(self, pipeline: str | None, limit: int | None) -> list[Facts]:
        """Newest first."""
        listed = list(self._server.pages(path("batches"), "batches", limit, pipeline=pipeline))
        if pipeline is not None and not listed:
            known = {one["pipeline"] for one in self._server.pages(path("batches"), "batches", PAGE)}
            raise UnknownName.of("pipeline with batches", pipeline, known)
        return listed

    def batch(self, batch_id: int) -> Facts:
        """Everything about one."""
        return self._server.get(path("batches", batch_id))

    def failed(self) -> list[Facts]:
        """As its database has them."""
        found: list[Facts] = self._server.get(path("batches", "waiting"))["batches"]
        return found

    def results(self, table: str | None, name: str | None, limit: int | None) -> list[Facts]:
        """Newest first."""
        return list(self._server.pages(path("checks"), "checks", limit, table=table, name=name))

    def anomalies(self) -> list[Facts]:
        """Page by page."""
        return list(self._server.pages(path("checks", "anomalies"), "anomalies", newest="true"))

    def ask(self, sql: str, ref: str, at: str | None, rows: int) -> tuple[Head, bool]:
        """The first rows of a SELECT, as many as the server gives at most, and whether there are more."""
        found = self._server.get(path("query"), sql=sql, branch=ref, at=at, limit=rows)
        return typed_head(found["columns"], found["rows"]), found["more"]

    def download(self, sql: str, ref: str, at: str | None, form: str) -> bytes:
        """All rows of a SELECT as a file: csv, jsonl or parquet. Raises LimitError: it has more than 64 MB."""
        return self._server.file(path("query", "file"), sql=sql, branch=ref, at=at, format=form)

    def _meant(self, text: str, ref: str) -> str:
        """A table's whole name; the server says what is wrong with one that is whole."""
        if "." in text:
            return text
        listed = self._server.pages(path("tables"), "tables", branch=ref, inputs="true")
        return str(meant_table(text, (TableName.parse(one["table"]) for one in listed), ref))


def _moved(found: Facts) -> Facts:
    return {field: found[field] for field in ("done", "tables", "views")}


def _known(found: Facts) -> Facts:
    if found["kind"] != "view":
        return found
    return {field: found[field] for field in _OF_VIEWS if field in found}


def _snapshot(found: Facts) -> Facts:
    ids: dict[str, Any] = {name: found[name] and int(found[name]) for name in ("snapshot_id", "parent_id")}
    return {**found, **ids}
