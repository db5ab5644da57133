"""Requests: what arrives at the service, what an answer means, and who learns of a connection's secrets."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from harness.reaching import Reaching
from harness.web import WebService, serving
from tidemill.authoring import registry
from tidemill.model.errors import DefinitionError
from tidemill.model.instance import Failed, Rescheduled, Succeeded
from tidemill.operators import HttpOperator, HttpSensor
from tidemill.wiring.secrets import secret_values


@pytest.fixture
def web(monkeypatch):
    with serving(WebService()) as made:
        monkeypatch.setenv("TIDEMILL_CONN_API", f"http://me:se%20cret@127.0.0.1:{made.port}/v1?X-Token=t0ken")
        yield made


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Reaching(tmp_path)
    with made.dag:
        yield made
    registry.clear()


def test_a_request_goes_to_the_connection_with_its_login_and_headers(worker, web):
    HttpOperator(
        task_id="ask", http_conn_id="api", endpoint="/orders/{{ ds }}", method="GET",
        data={"day": "{{ ds }}", "n": [1, 2]},
        headers={"Accept": "text/x"}, response_filter=lambda answer, ds: [answer.json()["path"], ds],
    )  # fmt: skip
    assert worker("ask") == Succeeded(2)
    [asked] = web.asked
    assert (asked.method, asked.path) == ("GET", "/v1/orders/2026-01-15?day=2026-01-15&n=1&n=2")
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"me:se cret").decode()
    assert (asked.headers["x-token"], asked.headers["accept"]) == ("t0ken", "text/x")
    assert worker.plain("ask") == [asked.path, "2026-01-15"]


def test_bodies_as_json_form_and_text(worker, web):
    HttpOperator(task_id="json", url=web.url, json={"day": "{{ ds }}"}, method="PUT")
    HttpOperator(task_id="form", url=web.url, data={"a": "x y"})
    HttpOperator(task_id="text", url=web.url, data="hello")
    for task in ("json", "form", "text"):
        assert worker(task) == Succeeded()
    json, form, text = web.asked
    assert (json.method, json.body, json.headers["content-type"]) == (
        "PUT",
        b'{"day": "2026-01-15"}',
        "application/json",
    )
    assert (form.method, form.body, text.body) == ("POST", b"a=x+y", b"hello")
    assert worker.plain("text") == '{"method": "POST", "path": "/"}'


def test_an_error_of_the_service_is_a_failure_that_may_be_tried_again(worker, web):
    """What the answer says about when to come back holds for the next try."""
    web.then(503, {"why": "busy"}, Retry_After="17").then(404, "nothing here")
    HttpOperator(task_id="busy", url=f"{web.url}/x", retries=3)
    HttpOperator(task_id="gone", url=f"{web.url}/x")
    busy = worker("busy")
    assert isinstance(busy, Failed)
    assert (busy.again, busy.delay) == (True, timedelta(seconds=17))
    assert '503 Service Unavailable: {"why": "busy"}' in busy.error
    assert "404 Not Found" in worker("gone").error


def test_a_check_that_fails_fails_the_task(worker, web):
    HttpOperator(task_id="ask", url=web.url, response_check=lambda answer: answer.json()["path"] == "/other")
    assert "does not pass" in worker("ask").error


def test_nobody_there_and_no_address_are_told(worker):
    HttpOperator(task_id="silent", url="http://127.0.0.1:9/")
    HttpOperator(task_id="file", url="file:///etc/passwd")
    HttpOperator(task_id="none", endpoint="x")
    assert "127.0.0.1:9 does not answer" in worker("silent").error
    assert "no address of the web" in worker("file").error
    assert 'no connection "http_default"' in worker("none").error
    with pytest.raises(DefinitionError, match="either a url, or an endpoint"):
        HttpOperator(task_id="both", url="http://x", endpoint="y")


def test_secrets_of_a_connection_do_not_follow_to_another_host(worker, web):
    with serving(WebService()) as other:
        web.then(302, "", Location=f"{other.url}/there")
        HttpOperator(task_id="ask", http_conn_id="api", endpoint="x", method="GET")
        assert worker("ask") == Succeeded()
        assert web.asked[0].headers["x-token"] == "t0ken"
        [asked] = other.asked
    assert not {"authorization", "x-token"} & asked.headers.keys()
    web.then(302, "", Location="/elsewhere")
    HttpOperator(task_id="same", http_conn_id="api", endpoint="x", method="GET")
    worker("same")
    assert web.asked[-1].headers["x-token"] == "t0ken", "on the same host they do"


def test_secrets_of_connections_are_masked():
    url = "https://me:se%20cret@host/?X-Token=t0ken&colour=blue&Authorization=Bearer%20abc"
    assert secret_values({"TIDEMILL_CONN_API": "http://api.example:8080/", "TIDEMILL_CONN_DB": "sqlite:///a.db"}) == []
    found = secret_values({"TIDEMILL_CONN_API": url, "COLOUR": "red"})
    assert found == [url, "se cret", "se%20cret", "t0ken", "Bearer abc"]


def test_a_sensor_waits_through_404_and_its_check(worker, web):
    web.then(404).then(200, {"ready": False}).then(200, {"ready": True}).then(500)
    HttpSensor(task_id="wait", url=web.url, mode="reschedule", response_check=lambda answer: answer.json()["ready"])
    assert isinstance(worker("wait"), Rescheduled)
    assert isinstance(worker("wait"), Rescheduled)
    assert worker("wait") == Succeeded()
    assert "500" in worker("wait").error
    assert [asked.method for asked in web.asked] == ["GET"] * 4
