"""`Pipeline`: what a user's file calls to declare sources, tables, SQL models and checks.

It only records; `Pipeline.spec()` gives the frozen value that `flow` runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, overload

from tidemill.authoring import registry
from tidemill.authoring.cdc import tables_of
from tidemill.authoring.defining import Rules, When, definition_of
from tidemill.authoring.deliveries import HasDeliveries
from tidemill.authoring.feeds import files_origin
from tidemill.authoring.handles import Source, Table, whole_name
from tidemill.authoring.options import check_source_options, decode_options, made_table, names_of, table_spec
from tidemill.authoring.place import assigned_name, feed_name, here, is_interactive, line_of, place_of, placed
from tidemill.authoring.schedules import moment_in, read_schedule
from tidemill.authoring.streams import HasStreams
from tidemill.model.batch import Interval
from tidemill.model.cdc import Cdc
from tidemill.model.connector import Connector
from tidemill.model.definition import Definition
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.expectation import Expectation
from tidemill.model.pipeline import (
    RESERVED,
    FilesOrigin,
    FunctionOrigin,
    InputSpec,
    Isolation,
    Materialized,
    OnFailure,
    PipelineSpec,
    Scope,
    SourceKind,
    SourceSpec,
    TransformSpec,
    tasks_of,
)
from tidemill.model.table import (
    PublishMode,
    TableName,
    WriteMode,
    check_name,
    check_pipeline_name,
    check_table_name,
)
from tidemill.plan.schedule import parse_timetable
from tidemill.plan.sql_model import SqlModel, read_model


class Pipeline(HasStreams, HasDeliveries):
    """A pipeline: feeds in, tables out, one transaction a run.

    Args:
        name: letters, digits, underscores; also the namespace of its tables.
        schedule: `@daily`, `@once`, `@continuous`, cron expressions, a step such as `15m`, a timedelta; a table, or
            `Published("p.t") & ...`, whose publishing begins a run; `FilesArrive("in/*.csv")`; None (run by hand).
        start: first moment of the first interval; a date, an ISO text or an aware datetime.
        end: no interval ends later than this.
        catchup: True: every interval since `start` is run; False: only the newest.
        zone: IANA zone in which the schedule ticks and naive times are read.
        publish: "run" (all tables together) or "table" (each when its own checks pass).
        isolation: "snapshot" or "serializable".
        params: defaults of `{{ params.x }}` and `context.params`.
        max_active_runs: so many runs of it at the same time; left out, 16 where all its tables are appended to, and one
            where a table is written by upsert, replace or history: of two such runs one would have to be done again.
        max_active_tasks: so many of their tasks at the same time.
        run_timeout: a run that takes longer is stopped (`2h`).
        deadline: a run that has not ended so long after its interval's end is told of.
        paused: its schedule begins nothing until somebody resumes it.
        retries: how often a scheduler tries a failed task again, `retry_delay` after each try.
        owner: whom to ask; `tags`: words to find it by.
        doc: what it is for.

    Raises:
        DefinitionError: a name, schedule or option is wrong.
    """

    def __init__(
        self,
        name: str,
        schedule: When = None,
        *,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        catchup: bool = False,
        zone: str = "UTC",
        publish: str = "run",
        isolation: str = "snapshot",
        params: Mapping[str, Any] | None = None,
        max_active_runs: int | None = None,
        max_active_tasks: int | None = None,
        run_timeout: str | timedelta | None = None,
        deadline: str | timedelta | None = None,
        paused: bool = False,
        retries: int = 0,
        retry_delay: str | timedelta = "5m",
        owner: str = "",
        tags: str | Sequence[str] = (),
        doc: str = "",
    ) -> None:
        self.place = here()
        self.name = placed(check_pipeline_name, name)
        placed(parse_timetable, None, zone)
        self._zone = zone
        self._rules = Rules.read(
            max_active_runs=max_active_runs, max_active_tasks=max_active_tasks, run_timeout=run_timeout,
            deadline=deadline, paused=paused, retries=retries, retry_delay=retry_delay, owner=owner, tags=tags,
        )  # fmt: skip
        self._start = moment_in(start, zone)
        self._schedule = read_schedule(schedule, zone, self._start, catchup=catchup)
        self._end = moment_in(end, zone)
        self._catchup = catchup
        self._publish = names_of(PublishMode, publish, "publish")
        self._isolation = names_of(Isolation, isolation, "isolation")
        self._params = dict(params or {})
        self._doc = doc
        self._sources: dict[str, SourceSpec] = {}
        self._transforms: dict[str, TransformSpec] = {}
        self._checks: dict[str, list[Expectation]] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        super().__init__()
        registry.add(self)

    # -- sources ---------------------------------------------------------------------------------------------

    def files(
        self,
        pattern: str,
        *,
        name: str | None = None,
        optional: bool = False,
        connection: str | None = None,
        new: bool = False,
        complete_after: str | timedelta | None = None,
        done: str | None = None,
        **options: Any,
    ) -> Source:
        """Declare a feed of files, archived byte for byte and loaded into the table `name`.

        Args:
            pattern: path in the project or the connection's place, or an address: `s3://bucket/...`, `https://...`,
                `sftp://...`, `ftp://...`; a template with `{{ ds }}` and the like; `*` and `**` match many.
            name: the table's name; left out, the name that the result is assigned to.
            optional: an interval without any file is an empty batch instead of an error.
            connection: the name of the one that says where, and who asks.
            new: each batch takes the files that are new or changed since the one before; a bookmark source.
            complete_after: a file changed within this time ("1m") is not complete: left for later with `new`, else
                waited for.
            done: the file beside another one that says that it is complete: "{name}.ok", "_SUCCESS".
            options: `contract`, `columns`, `max_rejected`, `partition`, `sort`, `publish`, `doc`, and how to decode:
                `format`, `csv`, `flatten`, `key`, `jsonpaths`, limits.
        """
        found = feed_name(name)
        origin = files_origin(pattern, optional, connection, new, complete_after, done)
        return self._add_source(found, origin, SourceKind.BOOKMARK if new else SourceKind.INTERVAL, options)

    @overload
    def source(self, given: Callable[..., Any]) -> Source: ...
    @overload
    def source(self, given: Connector, *, name: str | None = None, **options: Any) -> Source: ...
    @overload
    def source(self, *, name: str | None = None, **options: Any) -> Callable[[Callable[..., Any]], Source]: ...

    def source(
        self, given: Callable[..., Any] | Connector | None = None, *, name: str | None = None, **options: Any
    ) -> Source | Callable[[Callable[..., Any]], Source]:
        """Declare a feed by what `tidemill.sources` has, `shop.source(sources.sql("shop_db", "orders"))`, or by a
        generator function that yields rows (mappings), lists of rows, or Arrow tables.

        A parameter `interval` makes it an interval source: it is asked for any interval, in any order. A parameter
        `bookmark` makes it a bookmark source: it goes on from `bookmark.value` and calls `bookmark.advance(...)`.

        Args:
            given: the generator, or one of `tidemill.sources`.
            name: the table's name; left out, the function's, or what is read is called.
            options: as for `files`, and `archive` ("jsonl" or "avro"), `compression` ("zstd", "gzip", "none"),
                `on_failure` ("wait" or "absorb") for bookmark sources.
        """
        if given is None:
            return lambda f: self._function_source(f, name, options)
        if not isinstance(given, Connector):
            return self._function_source(given, name, options)
        found = feed_name(name or given.called)
        return self._add_source(found, given, given.kind, options)

    def _function_source(self, function: Callable[..., Any], name: str | None, options: dict[str, Any]) -> Source:
        wants = inspect.signature(function).parameters
        unknown = [p for p in wants if p not in RESERVED]
        if unknown:
            raise DefinitionError(
                f'Source "{function.__name__}" asks for "{unknown[0]}".',
                where=place_of(function),
                hint="a source may ask for " + ", ".join(RESERVED),
            )
        kind = SourceKind.BOOKMARK if "bookmark" in wants else SourceKind.INTERVAL
        options.setdefault("doc", inspect.getdoc(function) or "")
        made = self._add_source(name or function.__name__, FunctionOrigin(function), kind, options)
        made.function = function
        return made

    def _add_source(
        self, name: str, origin: FilesOrigin | FunctionOrigin | Connector, kind: SourceKind, options: dict[str, Any]
    ) -> Source:
        placed(check_table_name, name, "source")
        self._claim(name)
        decode = decode_options(options, origin)
        keeps_files = origin.keeps_files if isinstance(origin, Connector) else isinstance(origin, FilesOrigin)
        check_source_options(name, keeps_files, kind, options)
        archive = options.pop("archive", "jsonl")
        compression = options.pop("compression", "zstd")
        on_failure = names_of(OnFailure, options.pop("on_failure", "wait"), "on_failure")
        if archive not in ("jsonl", "avro") or compression not in ("zstd", "gzip", "none"):
            raise DefinitionError(
                f'Source "{name}": records cannot be archived as {archive}, {compression}.',
                where=here(),
                hint='archive="jsonl" or "avro"; compression="zstd", "gzip" or "none"',
            )
        table = table_spec(TableName(self.name, name), self._publish, options, origin)
        if table.write is not WriteMode.APPEND and not (isinstance(origin, Connector) and origin.merges):
            raise DefinitionError(
                f'Source "{name}" is loaded by append: its batch is replaced as a whole.',
                where=here(),
                hint="declare the key on a table that reads it: @pipeline.table(key=..., write=...)",
            )
        self._sources[name] = SourceSpec(
            name, table, origin, kind, on_failure, archive, compression, decode, here()
        )  # fmt: skip
        for made in tables_of(self._sources[name], origin, table.publish) if isinstance(origin, Cdc) else ():
            self._claim(made.table.name.table)
            self._transforms[made.table.name.table] = made
        return Source(self, name)

    # -- transformations -------------------------------------------------------------------------------------

    @overload
    def table(self, function: Callable[..., Any]) -> Table: ...
    @overload
    def table(self, *, name: str | None = None, **options: Any) -> Callable[[Callable[..., Any]], Table]: ...

    def table(
        self, function: Callable[..., Any] | None = None, *, name: str | None = None, **options: Any
    ) -> Table | Callable[[Callable[..., Any]], Table]:
        """Declare a table by a function from frames to a frame.

        Each parameter is an upstream table of that name: the rows of this run's batch, or with a default of
        `tm.whole()` or `tm.whole("pipeline.table")` the whole table.

        Args:
            function: the transformation.
            name: the table's name; left out, the function's.
            options: `key`, `write` ("append", "upsert", "replace", "history"), `order`, `partition`, `sort`,
                `surrogate_key`, `delete_flag`, `contract`, `columns`, `max_rejected`, `publish`,
                `engine` ("polars" or "pandas"), `doc`.
        """
        if function is None:
            return lambda f: self._function_table(f, name, options)
        return self._function_table(function, name, options)

    def _function_table(self, function: Callable[..., Any], name: str | None, options: dict[str, Any]) -> Table:
        place = place_of(function)
        name = placed(check_table_name, name or function.__name__, "table")
        engine = options.pop("engine", "polars")
        if engine not in ("polars", "pandas"):
            raise UnknownName.of("engine", str(engine), ("polars", "pandas"), where=place)
        inputs: list[InputSpec] = []
        wants: list[str] = []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in RESERVED:
                wants.append(parameter.name)
                continue
            text = whole_name(parameter.default)
            scope = Scope.BATCH if text is None else Scope.WHOLE
            inputs.append(InputSpec(parameter.name, TableName.parse(text or parameter.name, self.name), scope))
        options.setdefault("doc", inspect.getdoc(function) or "")
        table = made_table(table_spec(TableName(self.name, name), self._publish, options))
        self._claim(name)
        self._transforms[name] = TransformSpec(
            table, tuple(inputs), function=function, engine=engine, wants=tuple(wants), place=place
        )
        return Table(self, name, function)

    def sql(
        self, file: str | None = None, *, text: str | None = None, name: str | None = None, **options: Any
    ) -> Table:
        """Declare a table by a SQL SELECT with `{{ ref("t") }}` (the whole table) and `{{ batch("t") }}` (this batch).

        Args:
            file: path of a `.sql` file, relative to the file that calls this; its stem names the table.
            text: the SQL itself, in place of a file.
            name: the table's name.
            options: `materialized` ("table", "view", "incremental") and what `table` takes; a `{{ config(...) }}` in
                the SQL gives the same. A table is written by `replace`, an incremental model by `append` or `upsert`.
        """
        place = here()
        if (file is None) == (text is None):
            raise DefinitionError("A SQL model has either a file or a text.", where=place, hint='sql("models/x.sql")')
        path: Path | None = None
        if file is not None:
            path = Path(place.rpartition(":")[0]).parent / file
            if not path.is_file():
                raise DefinitionError(f'There is no SQL file "{file}".', where=place, hint=f"looked for {path}")
            text = path.read_text(encoding="utf-8")
        name = placed(check_table_name, name or (path.stem if path else None) or assigned_name() or "", "table")
        assert text is not None
        label = str(path) if path else place
        model: SqlModel = read_model(text, file=label, this=f"{self.name}.{name}", params=self._params)
        options = {**model.config, **options}
        kind = names_of(Materialized, options.pop("materialized", "table"), "materialized")
        default = WriteMode.UPSERT if kind is Materialized.INCREMENTAL and options.get("key") else WriteMode.APPEND
        options.setdefault("write", "replace" if kind is not Materialized.INCREMENTAL else default.value)
        table = made_table(table_spec(TableName(self.name, name), self._publish, options))
        inputs = tuple(
            InputSpec(d.name, TableName.parse(d.name, self.name), Scope(d.scope)) for d in model.dependencies
        )
        self._claim(name)
        self._transforms[name] = TransformSpec(
            table, inputs, sql=text, sql_file=str(path) if path else None, materialized=kind, place=str(path or place)
        )
        return Table(self, name)

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make a Python function callable in the pipeline's SQL, under its own name. Annotate its types."""
        self._functions[placed(check_name, function.__name__, "function")] = function
        return function

    def expect(self, table: str, checks: Iterable[Expectation]) -> None:
        """Add checks to one of the pipeline's tables; `Table.expect` is the usual way.

        The tables that flattening makes have no other: `pipeline.expect("orders__items", [...])`.
        """
        known = [*self._sources, *self._transforms]
        if table not in known and not any(source.makes(table) for source in self._sources.values()):
            raise UnknownName.of("table", table, known, where=here())
        kept = self._checks.setdefault(table, [])
        for check in checks:
            # In a notebook the same cell runs again: the newer check of that name replaces the older.
            kept[:] = [c for c in kept if c.name != check.name]
            kept.append(check)

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, when: str | None = None, **options: Any) -> Any:
        """Run the pipeline here and now, in this process, so that breakpoints work.

        Args:
            when: `"2013-01-15"`, `"2013-01-15..2013-01-20"`, or None for the newest complete interval.
            options: `refetch=True` asks the sources again; `params={...}` overrides parameters.

        Returns:
            The results, one a run: batch id, state, tables with rows, checks. Its HTML repr shows in notebooks.

        Raises:
            RunFailed: a task or a check failed; `main` is untouched.
        """
        return registry.runner().run(self, when, **options)

    def preview(self, table: str, when: str | None = None, rows: int = 10) -> Any:
        """Build one table, and what it needs, for an interval, and give its first rows without publishing anything."""
        return registry.runner().preview(self, table, when, rows)

    def test(self, interval: str | datetime | Interval | None = None, params: Mapping[str, Any] | None = None) -> Any:
        """Run it in this process for one interval, as a test: feeds are read from the project, and nothing else of it.

        Metadata, archive and lake are temporary, so earlier batches and tables of other pipelines are not there.

        Args:
            interval: the data interval, or a date in it; left out, the newest that is over, if it has a schedule.
            params: parameters of this run.

        Returns:
            A `PipelineTrial`: the tables that it would publish as frames, checks, errors.
        """
        return registry.runner().test(self, interval, params)

    # -- the value -------------------------------------------------------------------------------------------

    def spec(self) -> PipelineSpec:
        """The pipeline as a frozen value, checked as a whole.

        Raises:
            DefinitionError: tables read each other in a circle, two tasks write one table.
            UnknownName: an input or a check names a table of this pipeline that does not exist.
        """
        made = PipelineSpec(
            name=self.name,
            timetable=self._schedule.timetable,
            start=self._start,
            end=self._end,
            catchup=self._catchup,
            sources=dict(self._sources),
            transforms=dict(self._transforms),
            checks={name: tuple(checks) for name, checks in self._checks.items()},
            functions=dict(self._functions),
            publish=self._publish,
            isolation=self._isolation,
            params=dict(self._params),
            place=self.place,
            doc=self._doc,
            streams=dict(self._streams),
        )
        for transform in made.transforms.values():
            for needed in transform.inputs:
                own = needed.table.namespace == self.name
                if needed.table == transform.table.name and needed.scope is Scope.BATCH:
                    raise DefinitionError(
                        f'Table "{needed.table.table}" reads the rows of the batch that it is about to make.',
                        where=transform.place,
                        hint="tm.whole() reads what it held before; the function's name is that of the table it makes",
                    )
                if own and not made.has(needed.table.table):
                    known = [*made.sources, *made.transforms]
                    place = transform.place + line_of(needed.parameter, transform.sql if transform.sql_file else None)
                    raise UnknownName.of("table", needed.table.table, known, where=place)
        tasks_of(made)
        return self._deliveries(made)

    def definition(self) -> Definition:
        """What a scheduler needs to know of it. Raises as `spec`."""
        return definition_of(self.spec(), self._schedule, self._zone, self._rules)

    def _claim(self, name: str) -> None:
        """Make `name` free for a new definition: an error in a file, a replacement in a notebook."""
        older = self._sources.get(name) or self._transforms.get(name)
        if older is None:
            alike = [n for n in (*self._sources, *self._transforms) if n.lower() == name.lower()]
            if alike:
                raise DefinitionError(
                    f'Tables "{alike[0]}" and "{name}" differ only in case, which SQL ignores.', where=here()
                )
            return
        if not is_interactive(here()):
            raise DefinitionError(
                f'Pipeline "{self.name}" has two tables named "{name}".',
                where=here(),
                hint=f"the other one is at {older.place}",
            )
        # Its checks stay: they are often in another cell, and a table must not lose them because its own ran again.
        self._sources.pop(name, None)
        self._transforms.pop(name, None)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {len(self._sources)} sources, {len(self._transforms)} tables)"
