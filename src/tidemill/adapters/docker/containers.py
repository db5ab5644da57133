"""Port `containers` through the Docker SDK, on any engine that speaks Docker's API."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from tidemill.model.errors import Refused, TidemillError, Unreachable
from tidemill.ports.containers import Container

#: Seconds that the engine has for an answer; logs and the wait for an end have no limit.
TIMEOUT = 60
#: Statuses of a fetched layer that people want to see; the others are progress bars.
_TOLD = ("Pulling from", "Pull complete", "Already exists", "Digest:", "Status:")


class DockerEngine:
    """An engine.

    Args:
        url: `unix:///var/run/docker.sock`, `tcp://host:2375`; None: as `DOCKER_HOST` and its like say.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url

    @cached_property
    def _api(self) -> Any:
        import docker
        from docker.utils import kwargs_from_env

        with _translated():
            given = {"base_url": self._url} if self._url else kwargs_from_env()
            return docker.APIClient(version="auto", timeout=TIMEOUT, **given)

    def fetch(self, image: str, when: str) -> Iterator[str]:
        """See to it that an image is there."""
        from docker.errors import ImageNotFound

        if when == "never":
            return
        with _translated():
            if when == "missing":
                try:
                    self._api.inspect_image(image)
                    return
                except ImageNotFound:
                    pass
            name, tag = _parts(image)
            for told in self._api.pull(name, tag=tag, stream=True, decode=True):
                if "error" in told:
                    raise Refused(f'The image "{image}" cannot be fetched: {told["error"]}.')
                status = str(told.get("status", ""))
                if status.startswith(_TOLD):
                    yield f"{told['id']}: {status}" if told.get("id") else status

    def create(self, container: Container) -> str:
        """Make a container."""
        from docker.types import Mount

        with _translated():
            mounts = [
                Mount(
                    target=one.target,
                    source=one.source,
                    type="bind" if one.source.startswith("/") else "volume",
                    read_only=one.read_only,
                )
                for one in container.mounts
            ]
            limits: dict[str, Any] = {}
            if container.memory:
                limits["mem_limit"] = container.memory
            if container.cpus:
                limits["nano_cpus"] = int(container.cpus * 1e9)
            if container.network:
                limits["network_mode"] = container.network
            made = self._api.create_container(
                image=container.image,
                command=None if container.command is None else list(container.command),
                entrypoint=None if container.entrypoint is None else list(container.entrypoint),
                environment=dict(container.environment),
                working_dir=container.working_dir or None,
                user=container.user or None,
                name=container.name or None,
                labels=dict(container.labels),
                host_config=self._api.create_host_config(mounts=mounts, **limits),
            )
            return str(made["Id"])

    def start(self, id_: str) -> None:
        """Begin its program."""
        with _translated():
            self._api.start(id_)

    def lines(self, id_: str) -> Iterator[str]:
        """What it writes, line by line as it comes."""
        decoder, rest = codecs.getincrementaldecoder("utf-8")(errors="replace"), ""
        with _translated():
            for piece in self._api.logs(id_, stdout=True, stderr=True, stream=True, follow=True):
                *whole, rest = (rest + decoder.decode(piece)).split("\n")
                yield from (line.rstrip("\r") for line in whole)
        if rest := rest + decoder.decode(b"", final=True):
            yield rest

    def wait(self, id_: str) -> int:
        """Wait for its end."""
        with _translated():
            return int(self._api.wait(id_)["StatusCode"])

    def stop(self, id_: str, grace: float) -> None:
        """Ask its program to end, and end it after some seconds."""
        self._unless_gone(lambda: self._api.stop(id_, timeout=int(grace)))

    def remove(self, id_: str) -> None:
        """Remove it with its own volumes."""
        self._unless_gone(lambda: self._api.remove_container(id_, v=True, force=True))

    def _unless_gone(self, act: Callable[[], object]) -> None:
        from docker.errors import NotFound

        with _translated():
            try:
                act()
            except NotFound:
                return


def _parts(image: str) -> tuple[str, str | None]:
    """Name and tag; without a tag the newest is meant, and not every one there is."""
    if "@" in image:
        return image, None
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the SDK as ours."""
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except TidemillError:
        raise
    except APIError as error:
        what = f"The engine answered: {error.explanation or error}."
        raise (Unreachable(what) if error.is_server_error() else Refused(what)) from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise Unreachable(f"The engine of containers does not answer: {error}.") from None
