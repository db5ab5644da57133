"""What `Pipeline.run` returns: the runs, readable at a prompt and in a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidemill.flow.observe import RunReport


@dataclass(frozen=True)
class Results:
    """The reports of one or several runs, oldest first."""

    reports: tuple[RunReport, ...]

    @property
    def last(self) -> RunReport:
        """The last run."""
        return self.reports[-1]

    def __repr__(self) -> str:
        return "\n".join(_line(r) for r in self.reports)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{r.batch.id}</td><td>{html.escape(str(r.batch.key))}</td><td>{r.state}</td>"
            f"<td>{html.escape(', '.join(f'{t.name} {t.rows or 0:,}' for t in r.tables))}</td>"
            f"<td>{r.seconds:.2f} s</td></tr>"
            for r in self.reports
        )
        head = "<tr><th>batch</th><th>interval</th><th>state</th><th>rows</th><th>time</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _line(report: RunReport) -> str:
    tables = ", ".join(f"{t.name} {t.rows:,}" for t in report.tables if t.rows is not None)
    return f"batch {report.batch.id}  {report.batch.key}  {report.state}  {report.seconds:.2f} s  {tables}"
