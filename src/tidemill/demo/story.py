"""The demo's story: a week of days, a bad feed that is caught, its repair, and what is published at the end.

It does what the printed commands do, in this process, and says only what it has read back from the project.
"""
# ruff: noqa: S608 - the queries are this module's own, with dates, numbers and quoted names in them

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.authoring.pipeline import Pipeline
from tidemill.demo.folder import BAD_DAY, LEFT_DAY, DemoFolder
from tidemill.demo.live import LiveStory
from tidemill.demo.screen import Screen
from tidemill.demo.spoil import BROKEN
from tidemill.flow.observe import RunReport
from tidemill.flow.query import query, reading
from tidemill.flow.services import Services
from tidemill.flow.stage import spec_from
from tidemill.model.branch import MAIN
from tidemill.model.errors import RunFailed
from tidemill.model.table import BATCH_ID, INPUT_SUFFIX, LOADED_AT, TableName
from tidemill.plan.sql import quote
from tidemill.wiring.runner import keys_of, run_pipeline
from tidemill.wiring.settings import load_settings
from tidemill.wiring.stream_care import StreamCare

#: The days that are run before the bad one, and the run key of the reference tables.
WEEK = "2013-01-01..2013-01-07"
EDITION = "2013"

_REFUSED = f"""select carrier, flight, tailnum, origin, dest, dep_delay from clean_departures
    where flight_date = '{BAD_DAY}' and dep_delay > 600 order by dep_delay desc limit 3"""
_RANKING = "select airline, flights, round(mean_dep_delay, 1) as minutes_late from airline_delays limit 3"


@dataclass(frozen=True, slots=True)
class Held:
    """What a table holds: how many rows, and a hash over them in any order. When they were loaded does not count."""

    rows: int
    digest: int | None


class Story:
    """Tells the story in a demo folder.

    Args:
        folder: the folder, made.
        services: its project, open.
        pipelines: its pipelines.
        screen: where to.
    """

    def __init__(
        self, folder: DemoFolder, services: Services, pipelines: Mapping[str, Pipeline], screen: Screen
    ) -> None:
        self.folder = folder
        self.services = services
        self.pipelines = pipelines
        self.screen = screen

    # -- the chapters ----------------------------------------------------------------------------------------

    def week(self) -> None:
        """The tables that rarely change, then seven days, each published on its own."""
        screen = self.screen
        screen.chapter("First what rarely changes, then a week, day by day. Each run is one transaction.")
        screen.command(f"tidemill run reference {EDITION}")
        self._say_published(self._run("reference", EDITION))
        screen.command(f"tidemill run flights {WEEK}")
        for report in self._runs("flights", WEEK):
            self._say_published(report)
        for check in report.checks:
            if not check.passed:
                screen.fact("warned", f"{check.table}: {check.observed}; expected {check.expected}")

    def bad_day(self) -> RunReport:
        """The spoilt feed: a check refuses it, and `main` is as it was."""
        screen, again = self.screen, self._is_archived(BAD_DAY)
        screen.chapter(
            f"On the 8th the feed is bad. The demo has spoilt it: JetBlue's delays in seconds, {BROKEN} broken lines."
        )
        self.folder.spoil()
        report = self._refused(BAD_DAY, again=again)
        screen.chapter("What was refused can be read on that branch, and only there.")
        assert report.branch is not None
        self._ask(_REFUSED, report.branch)
        return report

    def left_to_the_reader(self) -> None:
        """Another bad feed: its run fails, and its branch stays to be repaired by whoever looks at the pages."""
        again = self._is_archived(LEFT_DAY)
        self.screen.chapter(f"The feed of {LEFT_DAY} is spoilt, too. This one is yours to repair.")
        self.folder.spoil(LEFT_DAY)
        self._refused(LEFT_DAY, again=again)

    def _refused(self, day: str, *, again: bool) -> RunReport:
        """Run a day whose feed is bad; says what its checks found, and that `main` is as it was."""
        screen = self.screen
        before = self._pointers(MAIN)
        screen.command(f"tidemill run flights {day}" + (" --refetch" if again else ""))
        report = self._run("flights", day, refetch=again)
        if report.branch is None:
            raise report.error or RunFailed(
                "The spoilt feed was published.", hint="pipelines/flights.py has lost its check of delays"
            )
        for task in report.tasks:
            if task.rejected:
                screen.fact("rejected", f"{task.rejected} lines, with raw text and reason: departures__quarantine")
        for check in report.checks:
            if not check.passed:
                screen.fact("failed", f"{check.table}: {check.observed}; expected {check.expected}")
        if self._pointers(MAIN) != before:
            raise RunFailed(f"A failed run has moved {MAIN}.")
        screen.fact("untouched", f"{MAIN}: {self._days(MAIN)}")
        on_branch = self._pointers(report.branch)
        written = [n.table for n in sorted(on_branch) if on_branch[n] != before.get(n) and not _is_inner(n)]
        screen.fact("kept", f"branch {report.branch}: {', '.join(written)}")
        return report

    def repair(self, failed: RunReport) -> None:
        """The good feed: this batch alone runs again, and is published."""
        screen, folder = self.screen, self.folder
        screen.chapter("The right file comes. This batch alone is run again, and published.")
        screen.command(f"cp {folder.original.relative_to(folder.root)} {folder.feed.relative_to(folder.root)}")
        folder.repair()
        screen.command(f"tidemill run flights {BAD_DAY} --refetch")
        self._say_published(self._run("flights", BAD_DAY, refetch=True))
        batch = f"batch_id = {failed.batch.id}"
        self._ask(f"select attempt, state, branch from tidemill.runs\n    where {batch} order by attempt desc limit 2")
        screen.chapter("Both files are in the archive, byte for byte.")
        self._ask(
            "select version, bytes, sha256 from tidemill.files\n"
            f"    where {batch} and source = 'departures' order by version desc limit 2"
        )

    def live(self) -> int:
        """The same flights as messages of a topic, and a stream over them; how many messages."""
        care = StreamCare(load_settings(self.folder.root), self.services.metadata)
        try:
            return LiveStory(
                self.folder.root, care, self.services.clock, self.screen,
                lambda sql: self._rows(sql, MAIN), lambda name: name in self._pointers(MAIN),
            ).tell(BAD_DAY)  # fmt: skip
        finally:
            care.close()

    def rest(self) -> None:
        """All later days of which there is a feed, a line a month."""
        days = [day for day in self.folder.days() if day > BAD_DAY]
        when = f"{days[0]}..{days[-1]}"
        self.screen.chapter(f"The rest of the year: {len(days)} days.")
        self.screen.command(f"tidemill run flights {when}")
        month: list[RunReport] = []
        with self.screen.progress("running", len(days)) as done:
            for report in self._runs("flights", when):
                _must_be_published(report)
                done(str(report.batch.key.interval))
                if month and _month_of(month[0]) != _month_of(report):
                    self._say_month(month)
                    month = []
                month.append(report)
        self._say_month(month)

    def tables(self) -> None:
        """What is published, and an answer from it."""
        self.screen.chapter("What is published:")
        self.screen.command("tidemill data ls")
        self.screen.table(self._listed())
        self._ask(_RANKING)

    # -- running ---------------------------------------------------------------------------------------------

    def _runs(self, pipeline: str, when: str, *, refetch: bool = False) -> Iterable[RunReport]:
        """Run batch after batch, and give each report as it ends."""
        spec = self.pipelines[pipeline].spec()
        for key in keys_of(spec, when, self.services):
            yield run_pipeline(self.services, spec, [key], refetch=refetch)[0]

    def _run(self, pipeline: str, when: str, *, refetch: bool = False) -> RunReport:
        (report,) = self._runs(pipeline, when, refetch=refetch)
        return report

    def _is_archived(self, day: str) -> bool:
        """Whether a day was run before, by an earlier demo: then only --refetch looks at its file again."""
        (key,) = keys_of(self.pipelines["flights"].spec(), day, self.services)
        with self.services.metadata.read() as tx:
            return tx.batches.find(key) is not None

    # -- saying ----------------------------------------------------------------------------------------------

    def _say_published(self, report: RunReport) -> None:
        _must_be_published(report)
        written = {t.name.table: t.rows or 0 for t in report.tables}
        rows = (
            f"{written['fct_departures']} departures"
            if "fct_departures" in written
            else f"{sum(written.values())} rows"
        )
        warned = sum(not c.passed for c in report.checks)
        checks = f"{len(report.checks) - warned} checks passed" + (f", {warned} warned" if warned else "")
        self.screen.fact(
            "published", f"{report.batch.key!s:<18}", f"batch {report.batch.id:<3}", f"{rows:<15}", f"{checks:<26}",
            f"{report.seconds:5.2f} s",
        )  # fmt: skip

    def _say_month(self, reports: list[RunReport]) -> None:
        rows = sum(t.rows or 0 for r in reports for t in r.tables if t.name.table == "fct_departures")
        seconds = sum(r.seconds for r in reports)
        self.screen.fact(
            "published", _month_of(reports[0]), f"{len(reports)} days", f"{rows:>6,} departures", f"{seconds:6.1f} s"
        )

    def _ask(self, sql: str, ref: str = MAIN) -> None:
        """Show a query and its answer."""
        self.screen.command(f'tidemill query "{sql}"' + ("" if ref == MAIN else f" --branch {ref}"))
        self.screen.table(self._rows(sql, ref))

    def _days(self, ref: str) -> str:
        sql = "select count(distinct flight_date) as days, count(*) as departures from fct_departures"
        (row,) = self._rows(sql, ref)
        return f"{row['days']} days, {row['departures']:,} departures"

    # -- reading ---------------------------------------------------------------------------------------------

    def contents(self) -> dict[str, Held]:
        """What every table on `main` holds that people read."""
        found = {}
        with reading(self.services) as seen:
            for name in sorted(name for name in seen.pointers if not _is_inner(name)):
                rows = f"SELECT * EXCLUDE ({BATCH_ID}, {LOADED_AT}) FROM {quote(name.namespace)}.{quote(name.table)}"
                sql = f"SELECT count(*) AS rows, bit_xor(hash(t)) AS digest FROM ({rows}) AS t"
                with query(self.services, sql, seen) as reader:
                    found[str(name)] = Held(**reader.read_all().to_pylist()[0])
        return found

    def _listed(self) -> list[dict[str, Any]]:
        """Every table and view on `main`."""
        with reading(self.services) as seen:
            listed: dict[TableName, dict[str, Any]] = {name: {"rows": None, "written": "view"} for name in seen.views}
            for name, pointer in seen.pointers.items():
                version = self.services.catalog.load(name, pointer)
                listed[name] = {"rows": version.rows, "written": spec_from(name, version.properties).write}
        return [{"table": name, **listed[name]} for name in sorted(listed) if not _is_inner(name)]

    def _pointers(self, ref: str) -> dict[TableName, str]:
        with self.services.metadata.read() as tx:
            return tx.refs.pointers(ref)

    def _rows(self, sql: str, ref: str) -> list[dict[str, Any]]:
        with reading(self.services, ref) as seen, query(self.services, sql, seen) as reader:
            rows: list[dict[str, Any]] = reader.read_all().to_pylist()
        return rows


def _must_be_published(report: RunReport) -> None:
    if not report.ok:
        raise report.error or RunFailed(f"The run of {report.batch.key} failed.")


def _month_of(report: RunReport) -> str:
    return str(report.batch.key.interval)[:7]


def _is_inner(name: TableName) -> bool:
    """True for tables that only Tidemill reads."""
    return name.table.endswith(INPUT_SUFFIX)
