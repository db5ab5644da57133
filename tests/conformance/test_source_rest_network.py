"""Web services behind certificates and proxies, and pages that are asked for ahead: over real connections."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.api import Api, Call, Said, paged, serving
from harness.certificates import Authority, authority
from harness.extracting import WaitingClock, extract, extracting
from harness.proxying import Proxy, proxying
from tidemill import sources
from tidemill.adapters.http.client import UrllibClient
from tidemill.adapters.http.place import HttpPlace
from tidemill.model.errors import SettingsError, TidemillError, Unreachable
from tidemill.ports.source import RawFile

ONE = [{"id": 1}]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def secure(signed: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A service by https, and the connection `shop` to it, which knows who has signed its certificate."""
    with serving(Api(lambda _: Said(ONE), tls=signed.server())) as api:
        monkeypatch.setenv(
            "TIDEMILL_CONN_SHOP", f"{api.url}/?ca_file={signed.file}&X-Tenant=7".replace("//", "//:t0ken@", 1)
        )
        yield api


# -- certificates


def test_an_authority_of_ones_own_is_trusted_where_the_connection_names_it(secure: Api) -> None:
    assert extract(sources.rest("/orders", auth=sources.bearer("shop"))).rows == ONE
    assert (secure.calls[0].headers["authorization"], secure.calls[0].headers["x-tenant"]) == ("Bearer t0ken", "7")
    assert "ca_file" not in secure.calls[0].headers


def test_the_service_of_tokens_is_trusted_by_its_own_connection(
    secure: Api, signed: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_TOKENS", f"https://me:s3cret@127.0.0.1:{secure.port}/token?ca_file={signed.file}")
    secure.faults.append(Said({"access_token": "bought"}))
    assert extract(sources.rest(f"{secure.url}/orders", auth=sources.oauth2("tokens"))).rows == ONE
    assert secure.calls[1].headers["authorization"] == "Bearer bought"


def test_a_certificate_that_is_not_trusted_is_one_clear_error(secure: Api) -> None:
    clock = WaitingClock()
    host = f"127.0.0.1:{secure.port}"
    with pytest.raises(SettingsError, match=f"The certificate of {host} is not trusted: ") as found:
        extract(sources.rest(f"{secure.url}/orders"), clock=clock)
    assert "?ca_file=" in str(found.value.hint)
    assert clock.waits == [], "asking again changes no certificate"
    with pytest.raises(SettingsError, match=f"The certificate of {host}") as asked:
        UrllibClient(secure.url).request("GET", "x", headers={}, query={})
    with pytest.raises(SettingsError, match=f"The certificate of {host}") as looked:
        HttpPlace(secure.url).look("x.csv")
    assert asked.value.hint == looked.value.hint == found.value.hint


def test_files_and_tasks_trust_it_as_well(secure: Api, signed: Authority) -> None:
    extra = {"ca_file": str(signed.file), "X-Tenant": "7"}
    assert UrllibClient(secure.url, extra=extra).request("GET", "x", headers={}, query={}).status == 200
    secure.faults.append(Said(b"a,b\n"))
    found = HttpPlace(secure.url, extra=extra).look("x.csv")
    assert found is not None
    assert found.bytes == 4
    assert {call.headers["x-tenant"] for call in secure.calls} == {"7"}
    assert not any("ca_file" in call.headers for call in secure.calls)


def test_a_certificate_of_another_host_is_told_as_that(signed: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Api(lambda _: Said(ONE), tls=signed.server("elsewhere.example"))) as api:
        monkeypatch.setenv("TIDEMILL_CONN_SHOP", f"{api.url}?ca_file={signed.file}")
        with pytest.raises(SettingsError, match=r"is not trusted: .*IP address mismatch") as found:
            extract(sources.rest("/orders", connection="shop"))
    assert found.value.hint == "the address has to be the name that the certificate is for"
    assert api.calls == []


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("nothing", "holds no certificate")])
def test_a_file_without_certificates_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, why: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("TIDEMILL_CONN_SHOP", f"https://127.0.0.1:9/?ca_file={file}")
    with pytest.raises(SettingsError, match=f"{file}.*cannot be read: .*{why}"):
        extract(sources.rest("/orders", connection="shop"))


# -- proxies


def test_a_proxy_opens_a_tunnel_which_pages_share(secure: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = paged([{"id": 1}, {"id": 2}, {"id": 3}], 1, "cursor")
    secure.answer = lambda call: pages(call)
    rest = sources.rest(
        "/orders", connection="shop", records="$.data", paginate=sources.by_cursor("$.next", param="after")
    )
    with proxying(Proxy(login="Basic YW5uOnBAc3M=")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:p%40ss@127.0.0.1:{proxy.port}")
        assert [row["id"] for row in extract(rest).rows] == [1, 2, 3]
        assert proxy.asked == [f"CONNECT 127.0.0.1:{secure.port}"], "one tunnel for all pages"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        extract(rest)
        assert len(proxy.asked) == 1
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:wrong@127.0.0.1:{proxy.port}")
        with pytest.raises(SettingsError, match=f"The proxy 127.0.0.1:{proxy.port} refuses: 407") as found:
            extract(rest)
    assert "wrong" not in f"{found.value} {found.value.hint}"
    assert not any("proxy-authorization" in call.headers for call in secure.calls), "the login is the proxy's alone"


def test_what_is_not_encrypted_is_asked_of_the_proxy_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Api(lambda _: Said(ONE))) as api, proxying(Proxy()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        assert extract(sources.rest(f"{api.url}/orders", params={"a": 1})).rows == ONE
        assert proxy.asked == [f"GET {api.url}/orders?a=1"]
        assert api.calls[0].headers["host"] == f"127.0.0.1:{api.port}"
    with pytest.raises(Unreachable, match=f"does not answer, asked by the proxy 127.0.0.1:{proxy.port}: "):
        extract(sources.rest(f"{api.url}/orders", retries=0))


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "http://:x", "http://127.0.0.1:port"])
def test_what_is_no_proxy_is_told(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", address)
    with pytest.raises(SettingsError, match="HTTP_PROXY is no proxy that can be asked"):
        extract(sources.rest("http://127.0.0.1:9/orders"))


# -- ahead


@pytest.mark.parametrize("how", ["page", "offset", "cursor", "link", "url"])
def test_the_next_page_is_asked_for_while_one_is_archived(how: str) -> None:
    came = threading.Semaphore(0)
    pages = paged([{"id": n} for n in range(1, 5)], 1, how)

    def answer(call: Call) -> Said:
        came.release()
        return pages(call)

    ways = {
        "page": sources.by_page(), "offset": sources.by_offset(), "link": sources.by_link(),
        "cursor": sources.by_cursor("$.next", param="after"), "url": sources.by_next_url("$.next"),
    }  # fmt: skip
    taken: list[str] = []
    with serving(Api(answer)) as api:
        records = None if how == "link" else "$.data"
        with extracting(sources.rest(f"{api.url}/orders", records=records, paginate=ways[how])) as extraction:
            assert came.acquire(timeout=0) is False, "nothing is asked before the pieces are"
            for piece in extraction:
                assert isinstance(piece, RawFile)
                taken.append(piece.name)
                last = len(taken) == (5 if how in ("page", "offset") else 4)
                asked = len(taken) + (0 if last else 1)
                while len(api.calls) < asked:
                    assert came.acquire(timeout=120), f"page {asked} is not asked for until the one before it is done"
                assert len(api.calls) == asked, "one page ahead, and no more"
    assert taken == [f"page-{number:06d}.json" for number in range(1, len(taken) + 1)]


def test_pages_ahead_keep_the_rate() -> None:
    clock = WaitingClock()
    with serving(Api(paged([{"id": n} for n in range(1, 4)], 1, "page"))) as api:
        rest = sources.rest(f"{api.url}/orders", records="$.data", paginate=sources.by_page(), rate="30/m")
        assert len(extract(rest, clock=clock).rows) == 3
    assert clock.waits == [2.0, 2.0, 2.0]


def test_what_fails_ahead_fails_in_its_turn_and_is_not_waited_for() -> None:
    records = [{"id": n} for n in range(1, 4)]
    with serving(Api(paged(records, 1, "page"), deque([None, Said(b"no", 400)]))) as api:
        rest = sources.rest(f"{api.url}/orders", records="$.data", paginate=sources.by_page())
        taken = []
        with pytest.raises(TidemillError, match=r"page-000002\.json"), extracting(rest) as extraction:
            taken += [piece.name for piece in extraction if isinstance(piece, RawFile)]
    with serving(Api(paged(records, 1, "page"), deque([None, "hang"]))) as api:
        rest = sources.rest(f"{api.url}/orders", records="$.data", paginate=sources.by_page())
        begun = time.monotonic()
        with extracting(rest) as extraction:
            assert isinstance(next(iter(extraction)), RawFile)
        assert time.monotonic() - begun < 20, "the service that hangs would have held it for thirty seconds"
