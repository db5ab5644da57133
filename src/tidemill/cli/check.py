"""`tidemill check`: load the project's files, validate every pipeline, and show what each table promises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Suggestion
from tidemill.cli.failure import short
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count

if TYPE_CHECKING:
    from tidemill.model.expectation import Expectation
    from tidemill.model.pipeline import PipelineSpec, SourceSpec
    from tidemill.model.stream import StreamSpec
    from tidemill.model.table import Contract, TableSpec


@click.command(cls=Command, asks=True)
@click.argument("pipeline", required=False)
@click.option("--results", is_flag=True, help="The last results of the checks, instead.")
@click.option("--docs", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write a page of HTML: what each table promises, and how that was met.")  # fmt: skip
@pass_invocation
def check(invocation: Invocation, pipeline: str | None, results: bool, docs: Path | None) -> None:
    """Validate the project and show what each table promises.

    Every file is loaded, every SQL model parsed as for a sample day, and every pipeline checked as a whole; nothing
    runs and no data is read. For each table: what
    makes it, its write mode and key, when it is published, the contract in force, and its checks.

    With --docs the last results of the checks are read, too, and told with all that in one file, which needs nothing
    beside it and holds no row.

    With --results nothing is loaded: the last result of each check is shown, as runs have left it, and rows of tables
    and figures of checks that are far from usual.
    """
    if results:
        from tidemill.cli.check_results import show_results

        if docs is not None:
            raise Suggestion("--results and --docs are one too many.", "one of them")
        show_results(invocation, pipeline)
        return
    if invocation.remote is not None:
        raise Suggestion(
            "Files are validated where they are: a server knows results of checks.",
            "tidemill check --results, or tidemill check where the project is",
        )
    from tidemill.model.errors import UserError
    from tidemill.wiring.checking import check_codecs, check_models, check_streams
    from tidemill.wiring.project import find_pipeline, load_pipelines

    settings = invocation.known_settings()
    found = [find_pipeline(settings, pipeline)] if pipeline else list(load_pipelines(settings).values())
    if not found:
        raise UserError(
            "The project has no pipeline.",
            where=", ".join(settings.pipelines),
            hint='tm.Pipeline("name") in such a file',
        )
    specs = [made.spec() for made in found]
    for spec in specs:
        check_models(spec)
        check_codecs(spec)
        check_streams(spec)
    failing = _write_docs(invocation, specs, docs) if docs is not None else 0
    if invocation.json:
        written = {"docs": str(docs), "failing": failing} if docs is not None else {}
        invocation.out.object({"pipelines": [_object(spec) for spec in specs], **written})
        return
    if docs is not None:
        invocation.out.facts([("wrote", str(docs), f"{count(failing, 'checks')} not met")])
        return
    for spec in specs:
        _print(invocation, spec)
    tables = sum(len(spec.sources) + len(spec.transforms) for spec in specs)
    checks = sum(len(c) for spec in specs for c in spec.checks.values())
    checks += sum(len(_stream_checks(spec)) for spec in specs)
    invocation.out.facts(
        [("valid", count(len(specs), "pipelines"), count(tables, "tables"), count(checks, "checks"))]
    )  # fmt: skip
    from tidemill.model.pipeline import tasks_of

    only_streams = not tasks_of(specs[0]) and specs[0].streams
    invocation.out.next(f"tidemill {'stream run' if only_streams else 'run'} {specs[0].name}")


def _write_docs(invocation: Invocation, specs: list[PipelineSpec], file: Path) -> int:
    """Write what tables promise, and how that was met; how many checks were not met the last time."""
    from tidemill.flow.facts.promises import docs_of
    from tidemill.model.errors import UserError
    from tidemill.web.docs_file import docs_page
    from tidemill.wiring.services import system_clock

    with invocation.metadata.read() as tx:
        told = docs_of(tx, specs)
    text = docs_page(invocation.known_settings().name, told, system_clock().now())
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"The docs cannot be written: {error.strerror}.", where=str(file)) from None
    return sum(one.failing for one in told)


def _print(invocation: Invocation, spec: PipelineSpec) -> None:
    from tidemill.model.pipeline import tasks_of

    out = invocation.out
    tasks = tasks_of(spec)
    does = count(len(spec.streams), "streams") if spec.streams and not tasks else count(len(tasks), "tasks")
    out.line(f"{out.styled(spec.name, 'heading')}  {_schedule(spec)}, {does}")
    out.line(f"  {short(spec.place)}")
    out.line()
    columns = [Column("table"), Column("write", wraps=True), Column("publish"), Column("contract", wraps=True),
               Column("made by", yields=1)]  # fmt: skip
    rows = [
        [t["table"], t["write"] + (f" by {', '.join(t['key'])}" if t["key"] else ""), t["publish"],
         t["contract"]["text"], t["made_by"]]
        for t in _tables(spec)
    ]  # fmt: skip
    if rows or not spec.streams:
        out.grid(columns, rows, indent="  ")
        out.line()
    if spec.streams and not rows:
        streams = [[s.name, ", ".join(t.name for t in s.topics.values()), s.guarantee] for s in spec.streams.values()]
        out.grid([Column("stream"), Column("reads", wraps=True), Column("guarantee")], streams, indent="  ")
        out.line()
    checks = [[name, *_check_cells(c)] for name, found in spec.checks.items() for c in found]
    checks += [[judged, *_stream_cells(spec.streams[stream], c)]
               for stream, judged, c in _stream_checks(spec)]  # fmt: skip
    if checks:
        headings = [Column("check of"), Column("expects", wraps=True), Column("a failure", wraps=True), Column("rows")]
        out.grid(headings, checks, indent="  ")
        out.line()


def _schedule(spec: PipelineSpec) -> str:
    if spec.timetable is None:
        return "run by hand"
    bounds = [f"from {spec.start:%Y-%m-%d}" if spec.start else "", f"to {spec.end:%Y-%m-%d}" if spec.end else ""]
    zone = "" if spec.timetable.zone == "UTC" else f" in {spec.timetable.zone}"
    return " ".join([f"{spec.timetable.text}{zone}", *(b for b in bounds if b)])


def _check_cells(check: Expectation) -> list[str]:
    """What is expected, what a failure does, and which rows are looked at."""
    expects = check.name if check.expected == check.name else f"{check.name}: {check.expected}"
    does = "fails the run" if check.severity.value == "error" else "is reported"
    return [expects, " ".join([does, f"({check.threshold})" if check.threshold else ""]).strip(), check.of.value]


def _stream_checks(spec: PipelineSpec) -> list[tuple[str, str, Expectation]]:
    """The checks of streams: whose, what they judge (a topic, or the stream's result), and the check."""
    found = []
    for stream in spec.streams.values():
        of_topics = ((topic.name, check) for topic in stream.topics.values() for check in topic.checks)
        found += [(stream.name, judged, check) for judged, check in of_topics]
        found += [(stream.name, stream.full_name, check) for check in stream.checks]
    return found


#: What becomes of rows that fail a check of severity `error`, by what the stream's `errors` say.
_ROWS = {"dead_letter": "quarantines the row", "stop": "stops the stream", "skip": "drops the row"}


def _stream_cells(stream: StreamSpec, check: Expectation) -> list[str]:
    expects, _, _ = _check_cells(check)
    does = _ROWS[stream.errors.get("expect") or stream.errors.get("") or "dead_letter"]
    counted = " ".join(["is counted", f"({check.threshold})" if check.threshold else ""]).strip()
    return [expects, does if check.severity.value == "error" else counted, f"each in {stream.name}"]


def _tables(spec: PipelineSpec) -> list[dict[str, Any]]:
    from tidemill.model.pipeline import Materialized

    found = [_table(source.table, _origin(source)) for source in spec.sources.values()]
    for transform in spec.transforms.values():
        made_by = "SQL" if transform.function is None else f"{transform.engine} function"
        about = _table(transform.table, made_by)
        if transform.materialized is Materialized.VIEW:
            about |= {"write": "view", "contract": {"text": "-"}}
        found.append(about)
    return found


def _origin(source: SourceSpec) -> str:
    from tidemill.model.connector import Connector
    from tidemill.model.pipeline import FilesOrigin

    if isinstance(source.origin, Connector):
        made_by = str(source.origin)
    else:
        made_by = "files" if isinstance(source.origin, FilesOrigin) else "function"
    return f"{made_by}, by {source.kind.value}"


def _table(table: TableSpec, made_by: str) -> dict[str, Any]:
    return {
        "table": table.name.table,
        "made_by": made_by,
        "write": table.write.value,
        "key": list(table.key),
        "publish": f"by {table.publish.value}",
        "contract": {
            "text": ", ".join([_contract(table.contract), *_policies(table)]),
            "on_misfit": table.contract.on_misfit.value,
            "columns": {c.name: str(c.type) for c in table.contract.columns},
            "max_rejected": table.contract.max_rejected,
        },
        "policy": {column: str(policy) for column, policy in table.policies.items()},
    }


def _policies(table: TableSpec) -> list[str]:
    """Which columns have policies, by policy: `hash email`."""
    kinds = dict.fromkeys(policy.kind.value for policy in table.policies.values())
    named = {kind: [c for c, p in table.policies.items() if p.kind.value == kind] for kind in kinds}
    return [f"{kind} {' and '.join(columns)}" for kind, columns in named.items()]


def _contract(contract: Contract) -> str:
    parts = [contract.on_misfit.value]
    if len(contract.columns):
        parts.append(f"{count(len(contract.columns), 'columns')} declared")
    if contract.max_rejected is not None:
        limit = contract.max_rejected
        parts.append(f"at most {limit:.2%} rejected" if isinstance(limit, float) and limit < 1 else
                     f"at most {limit:g} rejected")  # fmt: skip
    return ", ".join(parts)


def _object(spec: PipelineSpec) -> dict[str, Any]:
    checks: Mapping[str, Any] = {
        name: [
            {"name": c.name, "expected": c.expected, "severity": c.severity.value, "mostly": c.mostly,
             "max_failed": c.max_failed, "of": c.of.value}
            for c in found
        ]
        for name, found in spec.checks.items()
    }  # fmt: skip
    return {
        "pipeline": spec.name,
        "place": spec.place,
        "schedule": spec.timetable.text if spec.timetable else None,
        "zone": spec.timetable.zone if spec.timetable else None,
        "start": spec.start,
        "end": spec.end,
        "publish": spec.publish.value,
        "isolation": spec.isolation.value,
        "params": dict(spec.params),
        "tables": [{**t, "table": f"{spec.name}.{t['table']}"} for t in _tables(spec)],
        "checks": checks,
        "stream_checks": [
            {"stream": stream, "judged": judged, "name": c.name, "expected": c.expected, "severity": c.severity.value,
             "mostly": c.mostly, "max_failed": c.max_failed}
            for stream, judged, c in _stream_checks(spec)
        ],
    }  # fmt: skip
