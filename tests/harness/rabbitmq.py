"""A RabbitMQ server of its own for a test session.

Erlang's name server (epmd) would stay behind as a daemon on a port of the whole machine; so there is one beside each
server, on a port of its own, in the same process group.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.programs import CannotStart, Program, free_port

#: What Debian's `rabbitmq-server` runs once it is the right user: any user may.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@contextlib.contextmanager
def running() -> Iterator[tuple[str, str, Program]]:
    """Start a server: its URL, its version, and the program. Raises CannotStart."""
    names = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    if not PROGRAM.exists() or names is None:
        raise CannotStart(f"no {PROGRAM} (Debian: apt-get install rabbitmq-server)")
    with tempfile.TemporaryDirectory(prefix="tidemill-rabbitmq-") as folder:
        port, names_port = free_port(), free_port()
        environment = {
            "HOME": folder,
            "ERL_EPMD_PORT": str(names_port),
            "RABBITMQ_NODENAME": f"tidemill{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # Two schedulers that do not spin: the machine has other things to do.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false",
        }
        url = f"amqp://guest:guest@127.0.0.1:{port}//"
        found: dict[str, Any] = {}

        def answers() -> None:
            import kombu

            with kombu.Connection(url, connect_timeout=2) as connection:
                connection.connect()
                found.update(connection.connection.server_properties)

        command = ["sh", "-c", f"'{names}' -address 127.0.0.1 & exec '{PROGRAM}'"]
        program = Program("RabbitMQ", command, Path(folder, "log"), environment, answers)
        try:
            program.start()
            yield url, str(found["version"]), program
        finally:
            program.kill()
