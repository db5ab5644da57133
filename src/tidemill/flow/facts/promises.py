"""What tables promise, in words, and how that was met lately: data docs, made of code and of what is on record.

pipelines' values, results of checks -> TableDocs -> the page of a table's quality, `tidemill check --docs`
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidemill.model.branch import MAIN, CommitRecord
from tidemill.model.connector import Connector
from tidemill.model.expectation import (
    BetweenExpectation,
    ConditionExpectation,
    Expectation,
    Figure,
    FigureExpectation,
    InSetExpectation,
    MatchesExpectation,
    NotNullExpectation,
    Of,
    ReferencesExpectation,
    Severity,
    UniqueExpectation,
)
from tidemill.model.pipeline import FilesOrigin, Materialized, PipelineSpec, SourceSpec
from tidemill.model.table import Contract, TableName, TableSpec, WriteMode
from tidemill.ports.metadata import CheckRecord, Tx

#: Results of a check that are shown, and records of a table that are looked through for them.
SHOWN = 60
_LOOKED_AT = 3_000
#: Values of a set that are named.
_NAMED = 12


@dataclass(frozen=True, slots=True)
class CheckDocs:
    """A check of a table.

    Args:
        name: of the check.
        words: what it expects.
        failure: what a failure does; empty: the code does not declare it any more.
        results: the last ones, newest first.
    """

    name: str
    words: str
    failure: str
    results: tuple[CheckRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class TableDocs:
    """A table: what it promises, and how that was met lately.

    Args:
        table: `pipeline.table`.
        doc: its description, as its code has it.
        made: what makes it, how rows enter it, and what its key is, as sentences.
        columns: declared ones with their types.
        checks: those that the code declares in their order, then others that have results.
        published_at, batch_id: when `main` got its newest version, and of which batch.
    """

    table: str
    doc: str
    made: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    checks: tuple[CheckDocs, ...]
    published_at: datetime | None
    batch_id: int | None

    @property
    def failing(self) -> int:
        """How many checks failed the last time."""
        return sum(bool(check.results) and not check.results[0].passed for check in self.checks)


def docs_of(tx: Tx, specs: Iterable[PipelineSpec], table: str | None = None) -> list[TableDocs]:
    """What the tables of pipelines promise, or one of them, in the order of their declaration."""
    last: dict[TableName, CommitRecord] = {}
    for commit in tx.refs.commits(MAIN, limit=_LOOKED_AT):
        for changed in commit.changes:
            last.setdefault(changed, commit)
    made = []
    for spec in specs:
        for name, told in _tables(spec):
            full = TableName(spec.name, name)
            if table in (None, str(full)):
                made.append(_docs(tx, full, spec.checks.get(name, ()), told, last.get(full)))
    return made


#: Of a table: sentences about how it is made, its description, its contract.
_Told = tuple[tuple[str, ...], str, Contract]


def _tables(spec: PipelineSpec) -> Iterable[tuple[str, _Told]]:
    for source in spec.sources.values():
        told = (f"Loaded from {_origin(source)}.", *_written(source.table))
        yield source.table.name.table, (told, source.table.doc, source.table.contract)
    for transform in spec.transforms.values():
        made = "a SQL model" if transform.function is None else f"a Python function on {transform.engine} frames"
        told = (f"Made by {made}.", *_written(transform.table))
        if transform.materialized is Materialized.VIEW:
            told = ("A view: each reader sees its tables as they are.",)
        yield transform.table.name.table, (told, transform.table.doc, transform.table.contract)


def _origin(source: SourceSpec) -> str:
    if isinstance(source.origin, Connector):
        return str(source.origin)
    return "files" if isinstance(source.origin, FilesOrigin) else "a function"


#: What becomes of a batch's rows, by write mode.
_WRITES = {
    WriteMode.APPEND: "Each batch adds its rows; running it again replaces them.",
    WriteMode.UPSERT: "There is one row for each {key}: the newest.",
    WriteMode.REPLACE: "Each run makes it anew as a whole.",
    WriteMode.HISTORY: "Every version of each {key} is kept, with the time from and to which it was valid.",
}


def _written(table: TableSpec) -> tuple[str, ...]:
    return (_WRITES[table.write].replace("{key}", _and(table.key)), _kept(table.contract))


_MISFITS = {
    "evolve": "Input with new columns, or with wider types, changes the table.",
    "freeze": "Input that does not fit the columns is refused.",
    "discard_columns": "Columns that are not declared are left out.",
    "discard_rows": "Rows that do not fit the columns are put aside.",
}


def _kept(contract: Contract) -> str:
    told = _MISFITS[contract.on_misfit.value]
    limit = contract.max_rejected
    if limit is None:
        return told
    most = f"{limit:.2%} of the rows" if isinstance(limit, float) and limit < 1 else f"{limit:g} rows"
    return f"{told} At most {most} may be put aside."


def _docs(
    tx: Tx, full: TableName, declared: Iterable[Expectation], told: _Told, last: CommitRecord | None
) -> TableDocs:
    made, doc, contract = told
    results: dict[str, list[CheckRecord]] = {}
    for record in tx.checks.recent(table=full, limit=_LOOKED_AT):
        results.setdefault(record.name, []).append(record)
    checks = [
        CheckDocs(one.name, in_words(one), _failure(one), tuple(results.pop(one.name, ())[:SHOWN])) for one in declared
    ]
    checks += [
        CheckDocs(other, found[0].expected or other, "", tuple(found[:SHOWN])) for other, found in results.items()
    ]
    return TableDocs(
        str(full), doc, made, tuple((c.name, str(c.type)) for c in contract.columns), tuple(checks),
        last.at if last is not None else None, last.batch_id if last is not None else None,
    )  # fmt: skip


def in_words(check: Expectation) -> str:
    """What a check expects, as a sentence."""
    return f"{_expected(check)}{_threshold(check)}.{' Of the whole table.' if check.of is Of.WHOLE else ''}"


def _expected(check: Expectation) -> str:
    on = _and(check.columns)
    match check:
        case NotNullExpectation():
            return f"Each row has a value in {on}"
        case InSetExpectation(values=None):
            return f"{on} may be anything"
        case InSetExpectation(values=values):
            named = ", ".join(str(value) for value in (values or ())[:_NAMED])
            more = f" and {len(values) - _NAMED} more" if values and len(values) > _NAMED else ""
            return f"{on} is one of {named}{more}" if values else f"{on} has no value at all"
        case BetweenExpectation():
            return f"{on} is {_bounds(check)}"
        case MatchesExpectation(pattern=pattern):
            return f"{on} fits the regular expression {pattern}"
        case UniqueExpectation():
            return f"No two rows have the same {on}"
        case ReferencesExpectation(table=table, their=their):
            return f"Each {on} is there in {table} ({', '.join(their)})"
        case FigureExpectation(figure=Figure.AGE, maximum=most):
            return f"The newest {on} is at most {timedelta(seconds=most or 0)} old at the end of the interval"
        case FigureExpectation():
            return f"There are {check.expected}"
        case ConditionExpectation(text=text) if text and text != check.name:
            return f"{check.name}: {_plain(text)}"
    return check.expected


def _plain(text: str) -> str:
    """An expression as Polars writes it, without what only machines need."""
    text = re.sub(r'col\("([^"]*)"\)', r"\1", text).replace("[(", "(").replace(")]", ")")
    text = re.sub(r"\(dyn (?:int|float): ([^()]*)\)", r"\1", text)
    return re.sub(r"\((\w+)\)", r"\1", text)


def _bounds(check: BetweenExpectation) -> str:
    least = None if check.minimum is None else f"{'more than' if check.strict_min else 'at least'} {check.minimum}"
    most = None if check.maximum is None else f"{'less than' if check.strict_max else 'at most'} {check.maximum}"
    return " and ".join(bound for bound in (least, most) if bound) or "anything"


def _threshold(check: Expectation) -> str:
    if check.max_failed is not None:
        return f", but for at most {check.max_failed:,} rows"
    return f", in at least {check.mostly * 100:g} % of the rows" if check.mostly < 1 else ""


def _failure(check: Expectation) -> str:
    return "fails the run" if check.severity is Severity.ERROR else "is reported"


def _and(names: Iterable[str]) -> str:
    *before, last = names or ("the rows",)
    return f"{', '.join(before)} and {last}" if before else last
