"""Port `containers`: programs of tasks in containers of an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

#: When an image is fetched.
PULLS = ("missing", "always", "never")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the engine's computer, or a volume by its name, at a place in the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """What to run.

    Args:
        image: by name and tag.
        command: its program and arguments; None: the image's own. `entrypoint` likewise.
        environment: its variables.
        mounts: what it sees of other disks.
        working_dir, user, network, name: empty: as the image or the engine has it.
        memory: bytes at most; 0: any. `cpus`: so many at most; 0: any.
        labels: by which people find it.
    """

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    working_dir: str = ""
    user: str = ""
    network: str = ""
    name: str = ""
    memory: int = 0
    cpus: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)


class Containers(Protocol):
    """One engine.

    Raises:
        Unreachable: it does not answer. Refused: it answers that it will not (no such image, no such network).
    """

    def fetch(self, image: str, when: str) -> Iterator[str]:
        """See to it that an image is there; `when` is one of `PULLS`. Tells of its progress line by line."""
        ...

    def create(self, container: Container) -> str:
        """Make a container; returns its id."""
        ...

    def start(self, id_: str) -> None:
        """Begin its program."""
        ...

    def lines(self, id_: str) -> Iterator[str]:
        """What it writes, from its beginning on, line by line as it comes, until it ends."""
        ...

    def wait(self, id_: str) -> int:
        """Wait for its end; returns its exit code."""
        ...

    def stop(self, id_: str, grace: float) -> None:
        """Ask its program to end, and end it after some seconds; one that has ended, or is gone, is left."""
        ...

    def remove(self, id_: str) -> None:
        """Remove it with its own volumes, running or not; one that is gone is left."""
        ...
