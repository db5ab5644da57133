"""`tidemill check --results`: the last result of each check, as runs have left it, here or by a server."""

from __future__ import annotations

from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation
from tidemill.cli.text import count, moment
from tidemill.plan.anomalies import Metric, in_words, usual_in_words
from tidemill.ports.asked import Facts

#: Results that are looked through, newest first: those of some hundred runs.
_LOOKED_AT = 2000


def show_results(invocation: Invocation, pipeline: str | None) -> None:
    """Print them, what was not met first; then figures that are far from usual, which fail nothing."""
    newest: dict[tuple[str, str], Facts] = {}
    for one in invocation.installation.lake.results(None, None, _LOOKED_AT):
        if pipeline is None or one["table"].partition(".")[0] == pipeline:
            newest.setdefault((one["table"], one["name"]), one)
    listed = sorted(newest.values(), key=lambda one: (one["passed"], one["table"], one["name"]))
    unusual = [
        one for one in invocation.installation.lake.anomalies()
        if pipeline is None or one["table"].partition(".")[0] == pipeline
    ]  # fmt: skip
    out = invocation.out
    if invocation.json:
        out.object({"results": listed, "anomalies": unusual})
        return
    if listed:
        _print_results(invocation, listed)
    else:
        out.note("no check has a result yet; try: tidemill run PIPELINE")
    if unusual:
        if listed:
            out.line()
        _print_unusual(invocation, unusual)
    if listed and not listed[0]["passed"]:
        out.next(f"tidemill data show {listed[0]['table']} --failing")
    elif unusual:
        out.next(f"tidemill data batches {unusual[0]['batch_id']}")


def _print_results(invocation: Invocation, listed: list[Facts]) -> None:
    columns = [
        Column("check of"), Column("check", wraps=True), Column("result"), Column("severity", yields=2),
        Column("failed", right=True), Column("of rows", right=True), Column("observed", yields=1),
        Column("batch", right=True), Column("at", yields=3),
    ]  # fmt: skip
    invocation.out.grid(columns, [_row(one) for one in listed])


def _print_unusual(invocation: Invocation, unusual: list[Facts]) -> None:
    columns = [
        Column("unusual"), Column("check", wraps=True), Column("what"), Column("now", right=True),
        Column("usually", right=True), Column("batch", right=True), Column("of", yields=1),
    ]  # fmt: skip
    rows = [
        [one["table"], one["check"] or "", _COUNTED[one["metric"]],
         Styled(in_words(one["metric"], one["value"]), "warn"), usual_in_words(one["metric"], one["low"], one["high"]),
         str(one["batch_id"]), one["when"]]
        for one in unusual
    ]  # fmt: skip
    invocation.out.grid(columns, rows)


#: What figures count, in words.
_COUNTED = {Metric.ROWS: "rows", Metric.FAILING: "failing rows", Metric.AGE: "age"}


def _row(one: Facts) -> list[str]:
    failed = Styled("failed", "bad" if one["severity"] == "error" else "warn")
    return [
        one["table"], one["name"], "passed" if one["passed"] else failed, one["severity"], count(one["failed"]),
        count(one["rows"]), one["error"] or one["observed"] or "", str(one["batch_id"]), moment(one["at"]),
    ]  # fmt: skip
