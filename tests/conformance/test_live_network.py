"""Sources that others speak to: HTTP, answered once what came is kept; WebSockets, whose connections end."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from harness import services
from harness.livefeeds import SESSION, Deaths, Died, Rig, drain, until
from harness.programs import free_port
from harness.topics import Place, sql_place
from tidemill import live
from tidemill.flow.live.feeding import BACK_OFF, Feeding
from tidemill.model.errors import DefinitionError, SettingsError, Unreachable

ROW = {"id": 1, "name": "one"}


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Iterator[Place]:
    services.note_used(request, "SQLite", sqlite3.sqlite_version)
    with sql_place(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'topics.db')}") as made:
        yield made


# HTTP -----------------------------------------------------------------------------------------------------------------


@dataclass
class Post:
    """A request that is being answered, in a thread."""

    port: int
    body: Any
    path: str = "/orders"
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    answer: tuple[int, Any] | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        connection.request(self.method, self.path, self.body, self.headers)
        response = connection.getresponse()
        text = response.read()
        with suppress(ValueError):
            text = json.loads(text)
        self.answer = (response.status, text)
        connection.close()

    def wait(self) -> tuple[int, Any]:
        """The answer."""
        self.thread.join(40)
        assert self.answer is not None
        return self.answer


def pushed(place: Place, root: Path, **options: Any) -> tuple[Rig, int, Feeding]:
    """A topic that is fed by HTTP, and its port; it listens."""
    codec = options.pop("codec", "json")
    more = {} if codec == "json" else {"columns": None, "codec": codec}
    for _ in range(5):
        port = free_port()
        rig = Rig.of(place, root, live.http(port=port, path="/orders", **options), key=() if more else ("id",), **more)
        feeding = rig.feeding()
        drain(feeding, 2)
        if not rig.told:
            return rig, port, feeding
        feeding.close()
    raise AssertionError(rig.told)


def asked(feeding: Feeding, *posts: Post) -> list[tuple[int, Any]]:
    """Feed until these are answered."""
    while any(post.thread.is_alive() for post in posts):
        feeding.turn()
    return [post.wait() for post in posts]


def test_a_call_is_answered_once_its_messages_are_committed(place: Place, tmp_path: Path) -> None:
    rig, port, feeding = pushed(place, tmp_path)
    post = Post(port, json.dumps(ROW))
    post.thread.join(0.3)
    assert post.answer is None, "nobody has kept it yet"
    assert asked(feeding, post) == [(202, {"messages": 1})]
    assert rig.rows() == [ROW]
    feeding.close()


def test_who_dies_before_the_commit_has_told_nobody_that_it_is_kept(place: Place, tmp_path: Path) -> None:
    """What was answered 202 is there, and what was not was not answered so."""
    for at in (1, 4, 5):  # messages were sent, the commit was about to begin, and was done
        rig, port, feeding = pushed(place, tmp_path)
        rig.deaths = feeding._topics._deaths = Deaths(at)  # type: ignore[attr-defined]  # of the harness
        feeding._close_writer()
        post = Post(port, json.dumps(ROW))
        with pytest.raises(Died):
            asked(feeding, post)
        feeding.abandon()
        assert post.wait()[0] == 503
        place.clock.sleep(SESSION)
        feeding = rig.feeding()
        drain(feeding, 2)
        assert rig.rows() == ([ROW] if at == 5 else []), f"death at effect {at}"
        assert asked(feeding, Post(port, json.dumps(ROW))) == [(202, {"messages": 1})]
        assert len(rig.rows()) == (2 if at == 5 else 1)
        feeding.close()


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b'{"id": 1, "name": 1.50}', [b'{"id": 1, "name": 1.50}']),
        (b'[{"id": 1},\n {"id": 12345678901234567890123}]', [b'{"id": 1}', b'{"id": 12345678901234567890123}']),
        (b'{"id": 1}\r\n\n{"id": "no number"}', [b'{"id": 1}', b'{"id": "no number"}']),
        (b' {\n"id": 1\n}\n', [b'{\n"id": 1\n}']),
        (b"[]", []),
    ],
)
def test_a_body_is_an_object_an_array_or_lines_and_messages_stay_as_they_were_written(
    place: Place, tmp_path: Path, body: bytes, messages: list[bytes]
) -> None:
    """Digits, too; and what does not fit the topic's columns is the stream's affair."""
    rig, port, feeding = pushed(place, tmp_path)
    assert asked(feeding, Post(port, body)) == [(202, {"messages": len(messages)})]
    assert rig.messages() == messages
    feeding.close()


def test_who_may_not_or_says_nonsense_is_told_so_and_nothing_is_kept(place: Place, tmp_path: Path) -> None:
    rig, port, feeding = pushed(place, tmp_path, token="a long enough token", largest=100)
    good = {"Authorization": "Bearer a long enough token"}
    wrong = [
        (401, Post(port, b"{}")),
        (401, Post(port, b"{}", headers={"Authorization": "Bearer another"})),
        (413, Post(port, b" " * 101, headers=good)),
        (413, Post(port, iter([b" " * 60, b" " * 60]), headers=good)),
        (400, Post(port, b'{"id": 1}\n{"id": 2', headers=good)),
        (400, Post(port, b"", headers=good)),
        (404, Post(port, b"{}", path="/other", headers=good)),
        (405, Post(port, None, method="GET", headers=good)),
    ]
    answers = asked(feeding, *(post for _, post in wrong))
    assert [code for code, _ in answers] == [code for code, _ in wrong]
    assert answers[4][1] == {"error": "Line 2 is no JSON: Input data was truncated."}
    assert asked(feeding, Post(port, b"{}", headers={**good, "Origin": "https://evil.example"}))[0][0] == 202
    assert rig.progress().messages == 1
    feeding.close()


def test_a_web_page_cannot_write_to_loopback_without_a_token(place: Place, tmp_path: Path) -> None:
    _, port, feeding = pushed(place, tmp_path)
    post = Post(port, b"{}", headers={"Origin": "https://evil.example", "Content-Type": "text/plain"})
    assert asked(feeding, post)[0][0] == 403
    feeding.close()


def test_beyond_loopback_a_token_is_needed() -> None:
    with pytest.raises(DefinitionError, match="could write this topic"):
        live.http(port=8099, host="0.0.0.0")
    assert live.http(port=8099, host="0.0.0.0", token="env:TOKEN").host == "0.0.0.0"
    assert "secret" not in repr(live.http(port=8099, token="secret and long"))


def test_a_token_of_the_environment_must_be_there(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig.of(place, tmp_path, live.http(port=8099, token="env:TOKEN_OF_ORDERS"))
    with pytest.raises(SettingsError, match="TOKEN_OF_ORDERS"):
        rig.feeding()
    monkeypatch.setenv("TOKEN_OF_ORDERS", "from the environment")
    _, port, feeding = pushed(place, tmp_path, token="env:TOKEN_OF_ORDERS")
    wrong, right = ({"Authorization": f"Bearer {token}"} for token in ("env:TOKEN_OF_ORDERS", "from the environment"))
    answers = asked(feeding, Post(port, b"{}", headers=wrong), Post(port, b"{}", headers=right))
    assert [code for code, _ in answers] == [401, 202]
    feeding.close()


def test_a_topic_that_is_no_json_takes_each_body_as_a_message(place: Place, tmp_path: Path) -> None:
    rig, port, feeding = pushed(place, tmp_path, codec="bytes")
    assert asked(feeding, Post(port, b"[1, 2]\n\x00")) == [(202, {"messages": 1})]
    assert rig.messages() == [b"[1, 2]\n\x00"]
    feeding.close()


def test_a_port_that_is_taken_is_told_and_tried_again(place: Place, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rig = Rig.of(place, tmp_path, live.http(port=port), key=("id",))
        feeding = rig.feeding()
        drain(feeding, 3)
        assert isinstance(rig.told[0], Unreachable)
        assert "needs a port of its own" in str(rig.told[0])
    place.clock.sleep(BACK_OFF[-1])
    drain(feeding, 2)
    assert asked(feeding, Post(port, b"{}", path="/")) == [(202, {"messages": 1})]
    feeding.close()


def test_many_calls_at_once_are_kept_in_few_commits(place: Place, tmp_path: Path) -> None:
    rig, port, feeding = pushed(place, tmp_path)
    posts = [Post(port, json.dumps({"id": n, "name": "x"})) for n in range(30)]
    assert {code for code, _ in asked(feeding, *posts)} == {202}
    assert sorted(row["id"] for row in rig.rows()) == list(range(30))
    assert feeding.counts.commits < 30
    feeding.close()


# WebSocket ------------------------------------------------------------------------------------------------------------


class Trades:
    """A server that says numbers: those after the one that it is asked for, until it is told to break off."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.subscribed: list[str] = []
        self.breaks = 0
        self._changed = threading.Condition()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve; gives the address."""
        with serve(self._talk, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield f"ws://127.0.0.1:{_port(server)}/trades?key=hidden"
            self.say(stop=True)
            server.shutdown()
            thread.join()

    def say(self, *numbers: int, breaking: bool = False, stop: bool = False) -> None:
        """Have these said; then perhaps break off."""
        with self._changed:
            self.numbers += numbers
            self.breaks += breaking or stop
            self._changed.notify_all()

    def _talk(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            asked = connection.recv()
            assert isinstance(asked, str)
            self.subscribed.append(asked)
            at, breaks = json.loads(asked)["after"], self.breaks
            while True:
                due, broken = self._due(at, breaks)
                for number in due:
                    connection.send(json.dumps({"id": number, "name": "trade"}))
                    connection.send('{"heartbeat": true}')
                    at = number
                if broken:
                    connection.socket.shutdown(socket.SHUT_RDWR)
                    return

    def _due(self, at: int, breaks: int) -> tuple[list[int], bool]:
        """The numbers behind one, and whether to break off; waits for either."""
        with self._changed:
            self._changed.wait_for(lambda: self.breaks > breaks or max(self.numbers, default=0) > at, 20)
            return [number for number in self.numbers if number > at], self.breaks > breaks


def _port(server: Server) -> int:
    return int(server.socket.getsockname()[1])


def number_of(message: bytes) -> int | None:
    """The position that a message says."""
    found: int | None = json.loads(message).get("id")
    return found


def after(position: Any) -> dict[str, Any]:
    """What is asked for."""
    return {"after": position or 0}


def trades(rig: Rig) -> list[int]:
    return [row["id"] for row in rig.rows() if "id" in row]


def test_a_dropped_connection_is_begun_again_where_it_was(place: Place, tmp_path: Path) -> None:
    """With a position, and another side that can be asked for what comes after it, nothing is lost or doubled."""
    server = Trades()
    with server.serving() as url:
        rig = Rig.of(place, tmp_path, live.websocket(url, subscribe=after, position=number_of), key=("id",))
        feeding = rig.feeding()
        server.say(1, 2)
        until(rig, feeding, 4)
        server.say(3)
        until(rig, feeding, 6)
        server.say(breaking=True)
        place.until(lambda: (feeding.turn(), rig.told)[1], "for the end of the connection")
        server.say(4, 5)
        until(rig, feeding, 10)
        assert trades(rig) == [1, 2, 3, 4, 5]
        assert [json.loads(text)["after"] for text in server.subscribed] == [0, 3]
        assert all(isinstance(error, Unreachable) and "hidden" not in str(error) for error in rig.told)
        feeding.abandon()
        place.clock.sleep(SESSION)
        feeding = rig.feeding()
        server.say(6)
        until(rig, feeding, 12)
        assert trades(rig) == [1, 2, 3, 4, 5, 6]
        feeding.close()


def test_death_before_a_commit_is_made_good_by_the_position(place: Place, tmp_path: Path) -> None:
    for at in (1, 4, 5):
        server = Trades()
        with server.serving() as url:
            rig = Rig.of(place, tmp_path, live.websocket(url, subscribe=after, position=number_of))
            rig.deaths = Deaths(at)
            server.say(1, 2, 3)
            feeding = rig.feeding()
            with pytest.raises(Died):
                until(rig, feeding, 6)
            feeding.abandon()
            place.clock.sleep(SESSION)
            feeding = rig.feeding()
            server.say(4)
            place.until(lambda feeding=feeding, rig=rig: (feeding.turn(), 4 in trades(rig))[1])  # type: ignore[misc]
            assert trades(rig) == [1, 2, 3, 4], f"death at effect {at}"
            feeding.close()


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert str(live.websocket("wss://me:hidden@host:1/a/b?key=hidden")) == "websocket wss://host:1/a/b"


def test_a_server_that_is_away_is_tried_later_and_later_and_told_of(place: Place, tmp_path: Path) -> None:
    url = f"ws://127.0.0.1:{free_port()}/"
    rig = Rig.of(place, tmp_path, live.websocket(url, subscribe='{"after": 0}'))
    feeding = rig.feeding()
    tried: list[float] = []
    while len(rig.told) < 6:
        before = len(rig.told)
        feeding.turn()
        tried += [place.clock.monotonic()] * (len(rig.told) - before)
    pauses = [round(later - sooner) for sooner, later in pairwise(tried)]
    assert pauses == [1, 2, 5, 15, 60]
    assert "lets nobody in" in str(rig.told[0])
    assert feeding.error is rig.told[-1]
    feeding.close()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: live.websocket("https://host/"), "no address of a WebSocket"),
        (lambda: live.websocket("wss://host/", subscribe=3), "no text and no object"),  # type: ignore[arg-type]
        (lambda: live.http(port=0), "no port"),
        (lambda: live.http(port=80, path="orders"), "no path"),
        (lambda: live.http(port=80, token="short"), "at least 8"),
        (lambda: live.tail(""), "names no file"),
        (lambda: live.tail("logs/*/x"), "folder's name"),
        (lambda: live.tail("x", begin="middle"), "not known"),  # type: ignore[arg-type]
        (lambda: live.table("orders"), "names no table"),
        (lambda: live.table("shop.orders", time="at", speed=0), "no speed"),
        (lambda: live.custom(object()), "no method"),
    ],
)
def test_mistakes_are_told_where_they_are_made(make: Callable[[], object], what: str) -> None:
    with pytest.raises(DefinitionError, match=what) as told:
        make()
    assert "test_live_network.py" in (told.value.where or "")
