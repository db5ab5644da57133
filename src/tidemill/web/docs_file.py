"""Data docs as one file of HTML: it needs neither script nor network beside it, and holds no row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tidemill.flow.facts.promises import TableDocs
from tidemill.version import __version__
from tidemill.web.plot import history

_HERE = Path(__file__).resolve().parent


def docs_page(project: str, tables: Sequence[TableDocs], now: datetime) -> str:
    """The file's content.

    Args:
        project: its name.
        tables: what is told, in this order.
        now: when that was so.
    """
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"number": _number, "moment": _moment, "near": _moment}
    made.globals["history"] = history
    style = Markup((_HERE / "static" / "css" / "docs.css").read_text("utf-8"))  # noqa: S704 - a file of the package
    return made.get_template("docs_file.html").render(
        project=project, tables=tables, now=now, version=__version__, style=style
    )


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _moment(value: datetime | None) -> str:
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
