"""Environments with taps from the package index, made once and kept for later sessions."""

from __future__ import annotations

from pathlib import Path

from harness import services
from tidemill.model.errors import Unreachable
from tidemill.wiring.connectors import tap_environments

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".pytest_cache" / "venvs" / "taps"
POSTGRES = ("meltanolabs-tap-postgres==0.10.0",)
#: It imports `pkg_resources` and does not say so.
REST = ("tap-rest-api-msdk==1.4.2", "setuptools<81")


def with_taps(project: Path, *packages: tuple[str, ...]) -> None:
    """Let a project find the environments of these taps where the session keeps them."""
    try:
        for one in packages:
            tap_environments(FOLDER).having(one)
    except Unreachable as error:
        services.missing("singer taps", str(error))
        raise
    state = project / ".tidemill"
    state.mkdir(parents=True, exist_ok=True)
    if not (state / "taps").exists():
        (state / "taps").symlink_to(FOLDER)
