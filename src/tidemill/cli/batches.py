"""`tidemill data batches`: the list of batches, and everything about one of them.

Where the project is they are read from the metadata store alone, so nothing heavy is loaded.
"""

from __future__ import annotations

import json

from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation
from tidemill.cli.text import after, count, duration, moment, size
from tidemill.model.batch import BatchState, topic_of
from tidemill.model.run import RUN_ENDS
from tidemill.ports.asked import Facts

_STYLES = {"published": "good", "failed": "bad", "reverted": "warn", "absorbed": "warn", "cancelled": "warn",
           "aside": "warn"}  # fmt: skip


def list_batches(invocation: Invocation, pipeline: str | None, limit: int | None) -> None:
    """The newest batches, one a line."""
    listed = invocation.installation.lake.batches(pipeline, limit)
    out = invocation.out
    if invocation.json:
        out.object({"batches": listed})
        return
    if not listed:
        out.note("no batch yet; try: tidemill run PIPELINE")
        return
    columns = [
        Column("batch", right=True), Column("pipeline"), Column("interval"), Column("state"),
        Column("tries", right=True, yields=2), Column("rows", right=True), Column("extracted"),
        Column("archived", right=True, yields=3), Column("loaded", right=True, yields=3),
        Column("published", right=True, yields=1),
    ]  # fmt: skip
    rows = [
        [
            str(b["batch_id"]), b["pipeline"], b["when"], _state(b["state"]), str(b["attempts"]), count(b["rows"]),
            moment(b["extracted_at"]), after(b["archived_at"], b["extracted_at"]),
            after(b["loaded_at"], b["extracted_at"]), after(b["published_at"], b["extracted_at"]),
        ]
        for b in listed
    ]  # fmt: skip
    out.grid(columns, rows)
    if limit is not None and len(listed) == limit:
        out.note(f"the newest {limit}; older ones: --limit 0")
    out.next(f"tidemill data batches {listed[0]['batch_id']}")


def _state(state: str) -> str:
    style = _STYLES.get(state.rpartition(" ")[2])
    return Styled(state, style) if style else state


# One batch ------------------------------------------------------------------------------------------------------------


def show_batch(invocation: Invocation, batch_id: int) -> None:
    """Everything about one batch: times, archived files, attempts, tasks, checks, and the tables that it moved."""
    one = invocation.installation.lake.batch(batch_id)
    if invocation.json:
        invocation.out.object(one)
        return
    _print_facts(invocation, one)
    _print_archive(invocation, one["archive"])
    _print_tasks(invocation, one["tasks"], one["runs"][0]["error"] if one["runs"] else None)
    _print_checks(invocation, one["checks"])
    invocation.out.next(_next(one))


def _print_facts(invocation: Invocation, one: Facts) -> None:
    out, runs = invocation.out, one["runs"]
    facts = [
        ("batch", str(one["batch_id"])),
        ("pipeline", f"{one['pipeline']} {one['when']}"),
        ("state", one["state"] + (f", {count(one['attempts'], 'attempts')}" if one["attempts"] else "")),
        ("code", one["code_version"] or "-"),
    ]
    for step in ("extracted", "archived", "loaded", "published"):
        if one[f"{step}_at"] is not None:
            facts.append((step, moment(one[f"{step}_at"])))
    facts += [
        ("bookmark", f"{m['source']}: {json.dumps(m['bookmark_before'])} -> {json.dumps(m['bookmark_after'])}")
        for m in one["archive"]
        if m["bookmark_before"] is not None or m["bookmark_after"] is not None
    ]
    facts += [("table", name) for name in one["tables"]]
    if one["branch"] is not None:
        facts.append(("branch", one["branch"]))
    out.facts(facts)
    if runs and runs[0]["state"] in RUN_ENDS and runs[0]["error"]:
        out.line()
        head, *more = short(runs[0]["error"]).splitlines()
        out.line(f"{out.styled('error:', 'bad')} {head}")
        for line in more:
            out.line(line if line.startswith("  ") else f"  {line}")


def _print_archive(invocation: Invocation, manifests: list[Facts]) -> None:
    if not manifests:
        return
    out = invocation.out
    out.line()
    columns = [Column("archived file"), Column("bytes", right=True), Column("rows", right=True),
               Column("version", right=True, yields=1), Column("sha256", yields=2)]  # fmt: skip
    rows = [
        [part["path"], size(part["bytes"]), count(part["rows"]), str(manifest["version"]), part["sha256"]]
        for manifest in manifests
        for part in manifest["parts"]
    ]
    if out.width is not None:  # a path is pasted, a hash is compared: on a terminal its beginning does
        rows = [[*row[:-1], row[-1][:12]] for row in rows]
    out.grid(columns, rows)


def _print_tasks(invocation: Invocation, tasks: list[Facts], told: str | None) -> None:
    """The tasks of the newest attempt; an error that was told as the run's is not told again."""
    if not tasks:
        return
    invocation.out.line()
    errors = ["" if t["error"] == told else (t["error"] or "").split("\n", 1)[0] for t in tasks]
    columns = [Column("task"), Column("state"), Column("rows", right=True), Column("bytes", right=True, yields=1),
               Column("took", right=True), *([Column("error", wraps=True)] if any(errors) else [])]  # fmt: skip
    rows = [
        [
            t["task"],
            _task_state(t["state"]),
            count(t["rows"]),
            size(t["bytes"]),
            _took(t),
            *([error] if any(errors) else []),
        ]
        for t, error in zip(tasks, errors, strict=True)
    ]
    invocation.out.grid(columns, rows)


def _task_state(state: str) -> str:
    return Styled(str(state), "bad") if state == "failed" else str(state)


def _took(task: Facts) -> str:
    if task["started_at"] is None or task["ended_at"] is None:
        return "-"
    return duration((task["ended_at"] - task["started_at"]).total_seconds())


def _print_checks(invocation: Invocation, checks: list[Facts]) -> None:
    if not checks:
        return
    invocation.out.line()
    columns = [Column("check", wraps=True), Column("table", yields=2), Column("result"), Column("severity", yields=1),
               Column("failed", right=True), Column("of rows", right=True), Column("observed"),
               Column("expected", yields=3), Column("failing rows", yields=4)]  # fmt: skip
    rows = [
        [c["name"], c["table"],
         "passed" if c["passed"] else Styled("failed", "bad" if c["severity"] == "error" else "warn"),
         c["severity"], count(c["failed"]), count(c["rows"]), c["error"] or c["observed"] or "",
         c["expected"] if c["expected"] and c["expected"] != c["name"] else "", c["failures"] or ""]
        for c in sorted(checks, key=lambda c: (c["passed"], c["table"], c["name"]))
    ]  # fmt: skip
    invocation.out.grid(columns, rows)


def _next(one: Facts) -> str:
    if topic_of(one["pipeline"]) is not None:
        return "tidemill stream topics"
    if one["state"] == BatchState.PUBLISHED:
        return f"tidemill branch revert {one['batch_id']}"
    return f"tidemill branch diff {one['branch']}" if one["branch"] else f"tidemill replay {one['batch_id']}"
