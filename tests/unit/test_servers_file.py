"""Which server a command asks, and who asks it: the environment, and a file that only its owner reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.model.errors import SettingsError, UserError
from tidemill.wiring.installation import find_server, servers_file

SERVERS = """
[production]
url = "https://Pipelines.example/"
token = "tm_of-the-file"
ca_file = "/etc/own.pem"

[near]
url = "http://127.0.0.1:8080"
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment whose file of servers is a good one."""
    file = tmp_path / "tidemill" / "servers.toml"
    file.parent.mkdir()
    file.write_text(SERVERS)
    file.chmod(0o600)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_a_server_is_named_or_its_address_is_given(env: dict[str, str]) -> None:
    found = find_server("production", env)
    assert (found.url, found.token, found.ca_file) == ("https://pipelines.example", "tm_of-the-file", "/etc/own.pem")
    assert "tm_" not in repr(found)
    assert find_server("https://pipelines.example", env).token == "tm_of-the-file"
    assert find_server("production", {**env, "TIDEMILL_TOKEN": " tm_of-now\n"}).token == "tm_of-now"
    assert find_server("https://elsewhere.example:8443/", env).token == ""  # a token is one server's
    assert find_server("near", {**env, "TIDEMILL_TOKEN": "tm_x"}).url == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("prodution", 'There is no server "prodution".'),
        ("ftp://x", "is no address of a server"),
        ("https://user:password@x", '"x" is no address of a server.'),
        ("https://x/api/v1", "is no address of a server"),
        ("https://x:y", "is no address of a server"),
        ("http://pipelines.example", "whoever is on the way could read the token"),
    ],
)
def test_what_is_no_server_is_told(env: dict[str, str], given: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        find_server(given, {**env, "TIDEMILL_TOKEN": "tm_secret"})
    assert said in caught.value.what
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (SERVERS, 0o644, "Others can read the tokens of servers."),
        ("[production", 0o600, "cannot be read"),
        ('[production]\nurl = "x"\n', 0o600, "is no address"),
        ('[production]\nurl = "https://x"\ntokn = "tm_x"\n', 0o600, 'no setting of a server "tokn"'),
        ('production = "https://x"\n', 0o600, '"production" is no server'),
        ('[production]\nurl = "https://x"\ntoken = "a b"\n', 0o600, "it has a blank in it"),
    ],
)
def test_a_file_of_servers_that_is_wrong_is_told(env: dict[str, str], text: str, mode: int, said: str) -> None:
    file = servers_file(env)
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(UserError) as caught:
        find_server("production", env)
    assert said in caught.value.what
    assert "tm_of" not in str(caught.value)


def test_without_a_file_a_name_says_where_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_server("production", {"TIDEMILL_SERVERS": str(tmp_path / "none")})
    assert str(tmp_path / "none") in (caught.value.hint or "")
    with pytest.raises(SettingsError, match="cannot be read"):
        find_server("production", {"TIDEMILL_SERVERS": str(tmp_path)})
