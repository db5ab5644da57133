"""Programs in containers as tasks, through an engine that speaks Docker's API."""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tidemill.authoring.arguments import one_of
from tidemill.authoring.signals import SkipTask
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError, RunFailed, TidemillError
from tidemill.ports.containers import PULLS, Container, Containers, Mount

#: A program that was asked to end gets so long, seconds, before it is killed.
GRACE = 10.0
#: When a container that has ended is removed; one that was stopped always is.
REMOVALS = ("force", "success", "never")
_LAST_LINES = 5
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class DockerOperator(BaseOperator):
    """Runs a program in a container; its output goes to the task's log line by line. Its last line is returned.

    The container is stopped and removed when the task is stopped or its time is over.

    Args:
        image: by name and tag; a template, as are command, environment, working_dir and name.
        command: a text, taken apart as a shell would but not run by one, or a list; left out, the image's own.
        entrypoint: likewise.
        environment: variables of the program, beside those that tell it about its run (`TIDEMILL_DAG` ...).
            `private_environment`: likewise, and no template.
        mounts: `"/folder:/place"`, `"volume:/place:ro"`, or `Mount` of `tidemill.ports.containers`, or Docker's own.
        working_dir, user, network_mode, container_name: as of `docker run`.
        mem_limit: bytes, or a text such as `512m`. `cpus`: how many processors' time.
        pull: fetch the image when it is `missing`, `always`, or `never`; `force_pull=True` is `always`.
        auto_remove: `force`: whenever it has ended; `success`: when it has ended well; `never`.
        docker_conn_id: a connection `unix:///run/docker.sock`, `tcp://host:2375`; left out, the engine that DOCKER_HOST
            names, or this computer's.
        skip_on_exit_code: the task counts as skipped.
        xcom_all: all lines are returned, as a list.
        options: those of every task.
    """

    kind = "docker"
    template_fields: Sequence[str] = ("image", "command", "environment", "working_dir", "container_name")
    _engine: Containers | None = None
    _id: str | None = None
    _stopped = False

    def __init__(
        self,
        *,
        image: str,
        command: str | Sequence[str] | None = None,
        entrypoint: str | Sequence[str] | None = None,
        environment: Mapping[str, Any] | None = None,
        private_environment: Mapping[str, Any] | None = None,
        mounts: Sequence[Any] = (),
        working_dir: str = "",
        user: str = "",
        network_mode: str = "",
        container_name: str = "",
        mem_limit: int | str = 0,
        cpus: float = 0.0,
        pull: str = "missing",
        force_pull: bool = False,
        auto_remove: str = "force",
        docker_conn_id: str | None = None,
        skip_on_exit_code: int | Collection[int] = (),
        xcom_all: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.image = image
        self.command = command
        self.entrypoint = entrypoint
        self.environment = dict(environment or {})
        self.private_environment = dict(private_environment or {})
        self.mounts = tuple(_mount(one, self.place) for one in mounts)
        self.working_dir = working_dir
        self.user = user
        self.network_mode = network_mode
        self.container_name = container_name
        self.memory = _bytes(mem_limit, self.place)
        self.cpus = cpus
        self.pull = "always" if force_pull else one_of("pull", pull, PULLS)
        self.auto_remove = one_of("auto_remove", auto_remove, REMOVALS)
        self.docker_conn_id = docker_conn_id
        found = (skip_on_exit_code,) if isinstance(skip_on_exit_code, int) else skip_on_exit_code
        self.skip_on_exit_code = frozenset(found)
        self.xcom_all = xcom_all

    def execute(self, context: TaskContext) -> Any:
        """Run it to its end."""
        outside = context.services.need_outside()
        engine = outside.containers(self.docker_conn_id)
        # Another one for stopping: that comes while this one reads.
        self._engine = outside.containers(self.docker_conn_id)
        last: deque[str] = deque(maxlen=None if self.xcom_all else _LAST_LINES)
        try:
            for line in engine.fetch(self.image, self.pull):
                self.log.info("%s", line)
            self._id = id_ = engine.create(self._container(context))
            self.log.info("container %s of %s", id_[:12], self.image)
            if self._stopped:  # asked while it was being made, when there was nothing to stop yet
                raise RunFailed("It was stopped.", where=self.place)
            engine.start(id_)
            for line in engine.lines(id_):
                last.append(line)
                self.log.info("%s", line)
            code = engine.wait(id_)
        except BaseException:  # stopped, its time is over, or the engine has gone: nothing of it stays behind
            self.on_kill()
            raise
        if self.auto_remove == "force" or (self.auto_remove == "success" and not code):
            engine.remove(id_)
        self._id = None
        if code in self.skip_on_exit_code:
            raise SkipTask(f"the container ended with {code}")
        if code:
            shown = "".join(f"\n    {line}" for line in list(last)[-_LAST_LINES:])
            raise RunFailed(
                f"The container ended with exit code {code}.{shown}", where=self.place, hint="its log has all output"
            )
        if self.xcom_all:
            return list(last)
        return last[-1] if last else ""

    def on_kill(self) -> None:
        """Stop the container, first politely, and remove it."""
        self._stopped = True
        id_, engine = self._id, self._engine
        if id_ is None or engine is None:
            return
        try:
            engine.stop(id_, GRACE)
            engine.remove(id_)
        except TidemillError as error:
            self.log.warning("container %s may still be there: %s", id_[:12], error)

    def _container(self, context: TaskContext) -> Container:
        ti = context["ti"]
        about = {"dag": ti.dag_id, "task": ti.task_id, "run": ti.run_id, "try": str(ti.try_number)}
        told = {f"TIDEMILL_{name.upper()}": value for name, value in about.items()}
        given = {**told, **self.environment, **self.private_environment}
        return Container(
            self.image,
            _words(self.command),
            _words(self.entrypoint),
            {str(name): str(value) for name, value in given.items()},
            self.mounts,
            self.working_dir,
            self.user,
            self.network_mode,
            self.container_name,
            self.memory,
            self.cpus,
            {f"tidemill.{name}": value for name, value in about.items()},
        )


def _words(command: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if command is None:
        return None
    return tuple(shlex.split(command)) if isinstance(command, str) else tuple(map(str, command))


def _mount(given: Any, place: str) -> Mount:
    """One mount, however it was given. Raises DefinitionError."""
    if isinstance(given, Mount):
        return given
    if isinstance(given, str):
        parts = given.split(":")
        if len(parts) in (2, 3) and all(parts) and parts[2:] in ([], ["ro"], ["rw"]):
            return Mount(parts[0], parts[1], parts[2:] == ["ro"])
    elif isinstance(given, Mapping) and given.get("Source") and given.get("Target"):  # what Docker's own `Mount` is
        return Mount(str(given["Source"]), str(given["Target"]), bool(given.get("ReadOnly")))
    raise DefinitionError(f"{given!r} is no mount.", where=place, hint='"/folder:/place" or "volume:/place:ro"')


def _bytes(given: int | str, place: str) -> int:
    """`512m` in bytes. Raises DefinitionError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmg]?)b?", str(given).lower())
    if found is None:
        raise DefinitionError(f'"{given}" is no amount of memory.', where=place, hint="512m, 2g")
    return int(float(found[1]) * _UNITS[found[2]])
