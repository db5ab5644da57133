"""One call of the command line: its global options, and the project that they choose, opened when first needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from tidemill.cli.output import Output
from tidemill.model.errors import UserError

if TYPE_CHECKING:
    from tidemill.flow.services import Services
    from tidemill.ports.installation import Installation
    from tidemill.ports.metadata import Metadata
    from tidemill.wiring.settings import Settings
    from tidemill.wiring.stream_care import StreamCare

P = ParamSpec("P")
R = TypeVar("R")


class Invocation:
    """The global options of one call, as they are found at any place of the command line."""

    def __init__(self) -> None:
        self.arguments: list[str] = []
        self.project: Path | None = None
        #: An installation's server, by address or name, as the command line says it.
        self.server: str | None = None
        self.branch: str | None = None
        self.json = False
        self.verbose = 0
        self.debug = False
        self.out = Output()
        self._lone = False
        self._metadata: Metadata | None = None
        self._services: Services | None = None

    @cached_property
    def settings(self) -> Settings:
        """The project's settings."""
        from tidemill.wiring.settings import load_settings

        return load_settings(self.project)

    @property
    def root(self) -> Path:
        """The project's folder, or the current one where the settings were not read."""
        settings = self.__dict__.get("settings")
        return settings.root if settings is not None else Path.cwd()

    def use(self, settings: Settings) -> None:
        """Take the settings of the project that a file belongs to; a lone script is a project of its own."""
        self.__dict__["settings"] = settings
        self._lone = True

    def known_settings(self) -> Settings:
        """The settings of a project that exists: nothing is made in a folder that merely is the current one.

        Raises:
            UserError: there is no project.
        """
        from tidemill.wiring.settings import FILE, STATE_FOLDER, Settings

        settings = self.settings
        elsewhere = settings.metadata_url != Settings(settings.root, settings.name).metadata_url
        here = (settings.root / FILE).is_file() or (settings.root / STATE_FOLDER).is_dir()
        if here or elsewhere or self._lone:
            return settings
        raise UserError(
            f'There is no project at or above "{settings.root}".', hint="tidemill init my_project, or --project FOLDER"
        )

    @property
    def metadata(self) -> Metadata:
        """The project's metadata store; the engines are not loaded for it."""
        if self._services is not None:
            return self._services.metadata
        if self._metadata is None:
            from tidemill.wiring.services import open_metadata, system_clock

            self._metadata = open_metadata(self.known_settings(), system_clock())
        return self._metadata

    @property
    def services(self) -> Services:
        """Everything that runs and queries need."""
        if self._services is None:
            from tidemill.wiring.loading import own_process
            from tidemill.wiring.runner import services_of

            own_process()
            self._services = services_of(self.known_settings())
        return self._services

    @property
    def remote(self) -> str | None:
        """The server that is asked instead of a project: by `--server`, or by TIDEMILL_SERVER."""
        return self.server or os.environ.get("TIDEMILL_SERVER") or None

    @cached_property
    def installation(self) -> Installation:
        """What answers commands that need no files: the project here, or the server of one elsewhere.

        Raises:
            SettingsError: the server, or who asks it, is not said rightly.
        """
        if self.remote is None:
            from tidemill.wiring.installation import here

            return here(self.known_settings(), self.metadata, lambda: self.services, lambda: self.streams)
        from tidemill.version import __version__
        from tidemill.wiring.installation import elsewhere

        return elsewhere(self.remote, os.environ, __version__, self.out.note)

    @cached_property
    def streams(self) -> StreamCare:
        """The project's streams and topics, seen from outside."""
        from tidemill.wiring.loading import own_process
        from tidemill.wiring.stream_care import StreamCare

        own_process()
        return StreamCare(self.known_settings(), self.metadata)

    def close(self) -> None:
        """Let go of connections."""
        if "streams" in self.__dict__:
            self.streams.close()
        if self._metadata is not None:
            self._metadata.close()
        if self._services is not None:
            from tidemill.wiring.runner import close

            close(self.settings.root)

    def command(self, *more: str) -> str:
        """This call as a line that can be pasted, with more arguments."""
        import shlex

        return shlex.join(["tidemill", *self.arguments, *more])


def current(ctx: click.Context | None = None) -> Invocation:
    """The invocation of a click context."""
    return (ctx or click.get_current_context()).find_root().ensure_object(Invocation)


def pass_invocation(function: Callable[Concatenate[Invocation, P], R]) -> Callable[P, R]:
    """Hand the invocation to a command's function as its first argument."""

    def call(*args: P.args, **options: P.kwargs) -> R:
        return function(current(), *args, **options)

    return update_wrapper(call, function)
