"""`tidemill import`: what another tool has, and taking it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Group
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count

if TYPE_CHECKING:
    from tidemill.wiring.airflow_import import Imported, Item


@click.group(cls=Group)
def imports() -> None:
    """Take over what another tool has: Airflow's DAGs and past."""


@imports.command("airflow", cls=Command)
@click.argument("source")
@click.option("--write", is_flag=True, help="Take it over; else it is only told.")
@click.option("--runs", "most", type=click.IntRange(min=0), default=25, show_default=True, metavar="N",
              help="How many of the newest runs of each DAG are taken over.")  # fmt: skip
@pass_invocation
def airflow(invocation: Invocation, source: str, write: bool, most: int) -> None:
    """Tell what of an Airflow will run here, and take it over.

    SOURCE is a folder of DAGs, an AIRFLOW_HOME (airflow.cfg, dags, airflow.db), or the address of a metadata database
    of Airflow 2 or 3, which is only read. With --write the folder becomes part of the project, which is made where
    there is none; connections and variables go into its store, encrypted; pools and settings into tidemill.toml;
    schedules go on after the last interval that has ended there, and none of the past runs again.
    AIRFLOW__CORE__FERNET_KEY opens what is encrypted. What is here already stays as it is.
    """
    from tidemill.wiring.airflow_import import import_airflow

    found = import_airflow(source, invocation.project, write=write, most=most)
    out = invocation.out
    if invocation.json:
        out.object(_object(found))
        return
    columns = [Column("what"), Column("name"), Column("here"), Column("why", wraps=True), Column("where", yields=1)]
    out.grid(columns, [[one.kind, one.name, one.state, one.said, one.place] for one in found.items])
    for note in found.notes:
        out.note(note)
    if write:
        out.facts(_done(found))
        out.next("tidemill pipelines ls")
    else:
        out.next(f"tidemill import airflow {_shown(source)} --write")


def _done(found: Imported) -> list[tuple[str, str, str]]:
    return [
        ("runs", count(len(_with(found, "runs")), "DAGs"), ""),
        ("took", count(len(_with(found, "new")), "values"), f"{count(found.runs, 'runs')} of the past"),
        ("left", count(len(_with(found, "no")), "things"), "see above"),
    ]


def _with(found: Imported, state: str) -> list[Item]:
    return [one for one in found.items if one.state == state]


def _shown(source: str) -> str:
    """The source, without the password that an address may have."""
    from tidemill.model.masking import hide

    return hide(source)


def _object(found: Imported) -> dict[str, Any]:
    return {
        "project": str(found.root),
        "airflow": found.version,
        "wrote": found.wrote,
        "runs": found.runs,
        "items": [
            {"kind": one.kind, "name": one.name, "here": one.state, "why": one.said or None, "where": one.place or None}
            for one in found.items
        ],
        "notes": list(found.notes),
    }
