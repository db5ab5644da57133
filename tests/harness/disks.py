"""Small disks for tests of full ones: file systems in memory, where this user may mount them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import services


@dataclass(frozen=True)
class Disk:
    """A small disk."""

    folder: Path

    def grow(self, megabytes: int) -> None:
        """Make it larger."""
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", self.folder], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int = 2) -> Iterator[Disk]:
    """Mount one at a folder, which is made; where that is not allowed the test is skipped, and fails in CI."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        services.missing("a small disk", done.stderr.strip())
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
