"""`tidemill up` on a computer without the packages of the pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tidemill.cli.main import root


@pytest.mark.parametrize(("settings", "said"), [("", True), ("[web]\nenabled = false\n", False)])
def test_without_a_web_server_it_says_what_brings_the_pages(
    settings: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tidemill.toml").write_text(f'[project]\nname = "shop"\n{settings}')
    served: list[dict[str, Any]] = []

    def serve(_settings: Any, **parts: Any) -> int:
        served.append(parts)
        return 0

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("tidemill.wiring.serving.up", serve)
    done = CliRunner().invoke(root, ["--project", str(tmp_path), "up"])
    assert done.exit_code == 0, done.output
    assert ('pip install "tidemill[web]"' in done.stderr) is said
    assert [one["others"] for one in served] == [{}]
