"""Web services against real local servers: who asks, what passes, what does not, and that nothing is asked for ever."""

from __future__ import annotations

import gzip
import json
from collections import deque
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.api import Api, Call, Fault, Said, paged, serving
from harness.examples import few
from harness.extracting import DAY, WaitingClock, extract
from tidemill import sources
from tidemill.model.errors import (
    DataError,
    DecodeError,
    LimitError,
    Refused,
    RunFailed,
    SettingsError,
    TidemillError,
    UnknownName,
    Unreachable,
)

ONE = [{"id": 1}]


def one(_: Call) -> Said:
    return Said(ONE)


# -- who asks


def connect(
    monkeypatch: pytest.MonkeyPatch, name: str, api: Api, login: str = "", path: str = "", query: str = ""
) -> None:
    at = f"{login}@" if login else ""
    monkeypatch.setenv(f"TIDEMILL_CONN_{name.upper()}", f"http://{at}127.0.0.1:{api.port}/{path}{query}")


def test_a_connection_gives_address_login_and_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Api(one)) as api:
        connect(monkeypatch, "shop_api", api, "ann:p%40ss", "v1", "?X-Version=2")
        extract(sources.rest("/orders", connection="shop_api"))
    call = api.calls[0]
    assert (call.path, call.headers["x-version"]) == ("/v1/orders", "2")
    assert call.headers["authorization"] == "Basic YW5uOnBAc3M="


def test_tokens_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Api(one)) as api:
        connect(monkeypatch, "shop_api", api, ":t0ken")
        url = f"{api.url}/orders"
        for auth in (
            sources.bearer("shop_api"),
            sources.bearer(token="env:SHOP"),
            sources.api_key("X-Key", "shop_api"),
            sources.api_key("key", key="env:SHOP", where="query"),
            sources.basic("shop_api"),
        ):
            extract(sources.rest(url, params={"a": 1}, auth=auth))
    shown = [(c.headers.get("authorization"), c.headers.get("x-key"), c.one("key"), c.one("a")) for c in api.calls]
    assert shown == [
        ("Bearer t0ken", None, "", "1"),
        ("Bearer secret-of-SHOP", None, "", "1"),
        (None, "t0ken", "", "1"),
        (None, None, "secret-of-SHOP", "1"),
        ("Basic OnQwa2Vu", None, "", "1"),
    ]


@pytest.mark.parametrize("client", ["header", "body"])
def test_oauth_buys_a_token_once_and_again_when_it_ends(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    clock, tokens = WaitingClock(), iter(["first", "second", "third"])
    pages = paged([{"id": n} for n in range(1, 4)], 1, "cursor")

    def answer(call: Call) -> Said:
        if call.path == "/token":
            return Said({"access_token": next(tokens), "expires_in": 100})
        clock.advance(60)
        return pages(call)

    with serving(Api(answer)) as api:
        connect(monkeypatch, "oauth", api, "me:s3cret", "token")
        auth = sources.oauth2("oauth", scope="read", client=client)
        rest = sources.rest(
            f"{api.url}/orders", records="$.data", auth=auth, paginate=sources.by_cursor("$.next", param="after")
        )
        assert [row["id"] for row in extract(rest, clock=clock).rows] == [1, 2, 3]
    bought = [call for call in api.calls if call.path == "/token"]
    assert [call.headers.get("authorization", "-")[:13] for call in api.calls if call.path != "/token"] == [
        "Bearer first", "Bearer first", "Bearer second"
    ]  # fmt: skip
    assert b"scope=read" in bought[0].body
    if client == "body":
        assert b"client_secret=s3cret" in bought[0].body
    else:
        assert bought[0].headers["authorization"].startswith("Basic ")


def test_a_token_that_is_refused_is_bought_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(["old", "new", "third"])

    def answer(call: Call) -> Said:
        if call.path == "/token":
            return Said({"access_token": next(tokens)})
        good = call.headers["authorization"] == "Bearer new" and call.path == "/a"
        return Said(ONE) if good else Said(b"expired", 401)

    with serving(Api(answer)) as api:
        connect(monkeypatch, "oauth", api, "me:s3cret", "token")
        assert extract(sources.rest(f"{api.url}/a", auth=sources.oauth2("oauth"))).rows == ONE
        tokens = iter(["x1", "x2", "x3"])
        with pytest.raises(RunFailed, match="401"):
            extract(sources.rest(f"{api.url}/b", auth=sources.oauth2("oauth")))
    assert [call.path for call in api.calls[-4:]] == ["/token", "/b", "/token", "/b"]


def test_a_redirection_to_another_host_carries_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Api(one)) as other, serving(Api(one)) as api:
        api.faults.append(Said(b"", 302, {"Location": f"{other.url}/there"}))
        api.faults.append(Said(b"", 307, {"Location": "/here"}))
        connect(monkeypatch, "shop_api", api, ":t0ken", "", "?X-Tenant=7")
        rest = sources.rest(f"{api.url}/orders", auth=sources.bearer("shop_api"))
        assert extract(rest).rows == ONE
        assert extract(rest).rows == ONE
    assert "authorization" not in other.calls[0].headers
    assert "x-tenant" not in other.calls[0].headers
    assert [call.headers.get("authorization") for call in api.calls] == ["Bearer t0ken"] * 3


def test_redirections_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Api(lambda call: Said(b"", 302, {"Location": call.path + "x"}))) as api:
        with pytest.raises(Refused, match="redirects more than 10 times"):
            extract(sources.rest(f"{api.url}/orders"))
    with serving(Api(lambda call: Said(b"", 302, {"Location": "file:///etc/passwd"}))) as api:
        with pytest.raises(SettingsError, match="no address of the web"):
            extract(sources.rest(f"{api.url}/orders"))


def test_a_next_page_elsewhere_is_refused() -> None:
    with serving(Api(lambda _: Said({"data": ONE, "next": "http://169.254.169.254/latest"}))) as api:
        with pytest.raises(Refused, match=r"at http://169\.254\.169\.254/latest, which is another host"):
            extract(sources.rest(api.url + "/x", records="$.data", paginate=sources.by_next_url("$.next")))
    assert len(api.calls) == 1


def test_a_connection_is_for_its_own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_CONN_SHOP_API", "https://:t0ken@api.example/v1")
    with pytest.raises(SettingsError, match="is not at the host of the connection"):
        extract(sources.rest("https://other.example/x", auth=sources.bearer("shop_api")))
    with pytest.raises(UnknownName, match="nobody"):
        extract(sources.rest("/x", connection="nobody"))


@pytest.mark.parametrize("status", [403, 500])
def test_no_error_shows_a_secret(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    def echo(call: Call) -> Said:
        return Said(f"you sent {call.headers.get('authorization')} {call.query}".encode(), status)

    secret = "s3cret/with+signs"
    with serving(Api(echo)) as api:
        connect(monkeypatch, "shop_api", api, f"me:{quote(secret, safe='')}")
        for auth in (
            sources.bearer("shop_api"),
            sources.basic("shop_api"),
            sources.api_key("key", "shop_api", where="query"),
        ):
            with pytest.raises(TidemillError) as caught:
                extract(sources.rest(f"{api.url}/x", auth=auth, retries=1))
            text = str(caught.value)
            assert "you sent" in text
            assert secret not in text
            assert quote(secret, safe="") not in text
            assert "bWU6czNjcmV0" not in text


# -- what passes


PASSING: dict[str, Fault] = {
    "429": Said(b"slow down", 429),
    "500": Said(b"oops", 500),
    "503 with a wait": Said(b"", 503, {"Retry-After": "7"}),
    "dropped": "drop",
    "half an answer": "half",
    "no HTTP": "garbage",
    "a page of HTML": "html",
    "half of the JSON": "cut",
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_asked_again(fault: str) -> None:
    clock = WaitingClock()
    with serving(Api(paged([{"id": n} for n in range(5)], 2, "cursor"))) as api:
        api.faults.extend([None, PASSING[fault], PASSING[fault]])
        rest = sources.rest(f"{api.url}/x", records="$.data", paginate=sources.by_cursor("$.next", param="after"))
        assert [row["id"] for row in extract(rest, clock=clock).rows] == list(range(5))
    assert len(api.calls) == 5
    if fault == "503 with a wait":
        assert clock.waits == [7.0, 7.0]
    else:  # that a kept connection is closed is no failure, and asked again at once
        assert len(clock.waits) == (1 if fault == "dropped" else 2)


def test_silence_is_asked_again() -> None:
    with serving(Api(one)) as api:
        api.faults.append("hang")
        assert extract(sources.rest(f"{api.url}/x", timeout="200ms")).rows == ONE
    assert len(api.calls) == 2


def test_nobody_there_is_told() -> None:
    with serving(Api(one)) as api:
        port = api.port
    clock = WaitingClock()
    with pytest.raises(
        Unreachable, match=f"127.0.0.1:{port} does not answer: Connection refused; it was asked 3 times"
    ):
        extract(sources.rest(f"http://127.0.0.1:{port}/x", retries=2), clock=clock)
    assert [round(wait) for wait in clock.waits] in ([0, 1], [1, 1])


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "90"}, 90),
        ({"Retry-After": format_datetime(DAY.replace(minute=2), usegmt=True)}, 120),
        ({"Retry-After": format_datetime(DAY.replace(year=2020), usegmt=True)}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(DAY.timestamp()) + 30)}, 30),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12),
    ],
)
@pytest.mark.parametrize("status", [429, 403])
def test_a_service_says_how_long_to_wait(headers: dict[str, str], wait: float, status: int) -> None:
    clock = WaitingClock()
    with serving(Api(one)) as api:
        api.faults.append(Said(b"", status, headers))
        assert extract(sources.rest(f"{api.url}/x"), clock=clock).rows == ONE
    assert sum(clock.waits) == wait


def test_a_wait_beyond_the_patience_ends_the_task_at_once() -> None:
    clock = WaitingClock()
    with serving(Api(lambda _: Said(b"", 429, {"Retry-After": "3600"}))) as api:
        with pytest.raises(Unreachable, match=r"the next wait, 3600 s, is beyond patience='5m'") as caught:
            extract(sources.rest(f"{api.url}/x"), clock=clock)
    assert clock.waits == []
    assert caught.value.retryable
    assert len(api.calls) == 1


def test_tries_are_bounded_and_told() -> None:
    with serving(Api(lambda _: Said(b"down  for\nrepair", 503))) as api:
        with pytest.raises(Unreachable, match="answered with 503 Service Unavailable: down for repair; it was asked 4"):
            extract(sources.rest(f"{api.url}/x", retries=3))
    assert len(api.calls) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
def test_what_does_not_pass_is_asked_once(status: int) -> None:
    with serving(Api(lambda _: Said({"message": "since is no date"}, status))) as api:
        with pytest.raises(RunFailed, match=rf"GET {api.url}/x .*{status} .*since is no date"):
            extract(sources.rest(f"{api.url}/x", params={"key": "not shown"}))
    assert len(api.calls) == 1


def test_what_is_no_json_is_told_with_its_page_and_place() -> None:
    pages = {"": b'{"data": [{"id": 1}], "next": "b"}', "b": b'{"data": [{"id": 2}, {"id": 03}]}'}
    with serving(Api(lambda call: Said(pages[call.one("after")]))) as api:
        rest = sources.rest(f"{api.url}/x", records="$.data", paginate=sources.by_cursor("$.next", param="after"))
        with pytest.raises(DecodeError, match=r"page-000002.json is no JSON: invalid number \(byte 29\)") as caught:
            extract(rest)
    assert caught.value.where == f"page-000002.json of rest {api.url}/x"


def test_a_place_without_records_is_told() -> None:
    with serving(Api(lambda _: Said({"items": ONE, "total": 1}))) as api:
        with pytest.raises(DataError, match=r"has nothing at \$\.data") as caught:
            extract(sources.rest(f"{api.url}/x", records="$.data"))
        assert "there is: items, total" in str(caught.value.hint)
        assert extract(sources.rest(f"{api.url}/x", records="$.data", optional=True)).rows == []


def test_answers_are_bounded() -> None:
    with serving(Api(lambda _: Said([{"id": "x" * 100}] * 100))) as api:
        with pytest.raises(LimitError, match="answers with more than 5,000 bytes"):
            extract(sources.rest(f"{api.url}/x", largest=5000))
    bomb = gzip.compress(b"[" + b" " * 1_000_000 + b"]")
    with serving(Api(lambda _: Said(bomb, headers={"Content-Encoding": "gzip"}))) as api:
        with pytest.raises(LimitError, match="unpacks to more than 50,000 bytes"):
            extract(sources.rest(f"{api.url}/x", largest=50_000))


def test_packed_answers_are_kept_packed() -> None:
    packed = gzip.compress(json.dumps(ONE).encode())
    with serving(Api(lambda _: Said(packed, headers={"Content-Encoding": "gzip"}))) as api:
        made = extract(sources.rest(f"{api.url}/x"))
        assert api.calls[0].headers["accept-encoding"] == "gzip"
    assert made.files == {"page-000001.json.gz": packed}
    assert made.rows == ONE
    damaged = Said(packed[:-9], headers={"Content-Encoding": "gzip"})
    with serving(Api(lambda _: Said(ONE), deque([damaged]))) as api:
        assert extract(sources.rest(f"{api.url}/x")).rows == ONE


def test_no_content_is_no_records() -> None:
    with serving(Api(lambda _: Said(b"", 204))) as api:
        assert extract(sources.rest(f"{api.url}/x", records="$.data")).rows == []


def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    clock, pages = WaitingClock(), paged([{"id": n} for n in range(6)], 2, "cursor")
    with serving(Api(pages)) as api:
        api.faults.extend([None, "drop"])
        rest = sources.rest(
            f"{api.url}/x", records="$.data", paginate=sources.by_cursor("$.next", param="after"), retries=0
        )
        assert len(extract(rest, clock=clock).rows) == 6
    assert clock.waits == []


# -- the property


FAULTS = st.sampled_from([None, None, *PASSING.values()])


@settings(max_examples=few(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(0, 12),
    size=st.integers(1, 5),
    way=st.sampled_from(["page", "offset", "cursor", "link", "url"]),
    faults=st.lists(FAULTS, max_size=10),
    packed=st.booleans(),
)
def test_each_record_once_however_pages_are_cut_and_whatever_passes(
    count: int, size: int, way: str, faults: list[Fault | None], packed: bool
) -> None:
    records = [{"id": number} for number in range(count)]
    pages = paged(records, size, way)

    def answer(call: Call) -> Said:
        said = pages(call)
        if packed:
            said = Said(
                gzip.compress(json.dumps(said.body).encode()), 200, {**said.headers, "Content-Encoding": "gzip"}
            )
        return said

    ways: dict[str, Any] = {
        "page": sources.by_page(),
        "offset": sources.by_offset(),
        "cursor": sources.by_cursor("$.next", param="after"),
        "link": sources.by_link(),
        "url": sources.by_next_url("$.next"),
    }
    path = None if way == "link" else "$.data[*]"
    with serving(Api(answer, deque(faults))) as api:
        rest = sources.rest(f"{api.url}/x", records=path, paginate=ways[way], retries=len(faults), patience="1h")
        assert extract(rest).rows == records
