"""Hooks of the standard provider, and `send_email`: what has no connection to a system of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

from tidemill.authoring.task_context import get_current_context
from tidemill.compat.airflow.connections import BaseHook
from tidemill.compat.airflow.exceptions import AirflowException, AirflowNotFoundException
from tidemill.operators.email import EmailOperator
from tidemill.operators.process import Program


class FSHook(BaseHook):
    """A folder: `path` in the `extra` of a connection. Without the default one, the project's own.

    Args:
        fs_conn_id: the connection.
    """

    conn_name_attr = "fs_conn_id"
    default_conn_name = "fs_default"

    def __init__(self, fs_conn_id: str = default_conn_name, **options: Any) -> None:
        super().__init__(**options)
        self.fs_conn_id = fs_conn_id

    def get_path(self) -> str:
        """The folder; empty: the project's. Raises AirflowNotFoundException."""
        try:
            return str(self.get_connection(self.fs_conn_id).extra_dejson.get("path", ""))
        except AirflowNotFoundException:
            if self.fs_conn_id != self.default_conn_name:
                raise
            return ""


class PackageIndexHook(BaseHook):
    """An index of Python packages: `host`, `login` and `password` of a connection.

    Args:
        pi_conn_id: the connection.
    """

    conn_name_attr = "pi_conn_id"

    def __init__(self, pi_conn_id: str = "package_index_default", **options: Any) -> None:
        super().__init__(**options)
        self.pi_conn_id = pi_conn_id

    def get_connection_url(self) -> str:
        """Its address, with who asks. Raises AirflowException: the connection has no host."""
        known = self.get_connection(self.pi_conn_id)
        if not known.host:
            raise AirflowException(f'The connection "{self.pi_conn_id}" has no host.')
        scheme, _, rest = known.host.rpartition("://")
        login = f"{quote(known.login, safe='')}:{quote(known.password or '', safe='')}@" if known.login else ""
        return f"{scheme or 'https'}://{login}{rest}"

    get_conn = get_connection_url


class SubprocessResult(NamedTuple):
    """How a command ended, and the last line that it wrote."""

    exit_code: int
    output: str


class SubprocessHook(BaseHook):
    """Runs a command, and writes its output to the log line by line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._program = Program()

    def run_command(
        self, command: list[str], env: Mapping[str, str] | None = None, output_encoding: str = "utf-8",
        cwd: str | None = None,
    ) -> SubprocessResult:  # fmt: skip
        """Run it to its end, in a folder of its own unless another one is given.

        Raises:
            AirflowException: there is no such folder.
        """
        if cwd is not None and not Path(cwd).is_dir():
            raise AirflowException(f"Can not find the cwd: {cwd}")
        lines = [""]

        def line(text: str) -> None:
            lines[:] = [text]
            self.log.info("%s", text)

        with TemporaryDirectory(prefix="tidemill-") as own:
            code = self._program.run(command, Path(cwd or own), os.environ if env is None else env, line)
        return SubprocessResult(code, lines[0])

    def send_sigterm(self) -> None:
        """End it."""
        self._program.end()


def send_email(
    to: Any, subject: str, html_content: str, files: Any = None, dryrun: bool = False, cc: Any = None, bcc: Any = None,
    conn_id: str | None = None, from_email: str | None = None, **_mime: Any,
) -> None:  # fmt: skip
    """Send a letter, within a task or a callback: see `tidemill.operators.EmailOperator`."""
    letter = EmailOperator(
        task_id="send_email", to=to, subject=subject, html_content=html_content, files=files or (), cc=cc or (),
        bcc=bcc or (), conn_id=conn_id, from_email=from_email or "",
    )  # fmt: skip
    if not dryrun:
        letter.execute(get_current_context())
