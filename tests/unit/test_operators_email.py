"""Letters: what arrives at the server, and what refusals mean."""

from __future__ import annotations

import email
from email.message import Message

import pytest

from harness.listening import MailListener, listening
from harness.reaching import Reaching
from tidemill.authoring import registry
from tidemill.model.instance import Succeeded
from tidemill.operators import EmailOperator


@pytest.fixture
def mail(monkeypatch):
    made = MailListener()
    monkeypatch.setenv("TIDEMILL_CONN_POST", f"{made.url}?from=mill@example.org")
    with listening(made):
        yield made


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Reaching(tmp_path)
    with made.dag:
        yield made
    registry.clear()


def parts(text: str) -> dict[str, Message]:
    return {part.get_filename() or part.get_content_type(): part for part in email.message_from_string(text).walk()}


def test_a_letter_arrives_with_all_its_parts_at_everybody(worker, mail, tmp_path):
    (tmp_path / "day-2026-01-15.csv").write_text("a,b\n")
    (tmp_path / "page.html").write_text("<p>{{ ds }}</p>")
    EmailOperator(
        task_id="tell", conn_id="post", to="a@example.org, b@example.org", cc=["c@example.org"], bcc="d@example.org",
        subject="Day {{ ds }}", html_content="<b>{{ ds }}</b>", body="plain {{ ds }}",
        files=["day-{{ ds }}.csv", "page.html"],
    )  # fmt: skip
    assert worker("tell") == Succeeded()
    [text] = mail.messages
    found = parts(text)
    assert mail.readers == [f"{name}@example.org" for name in "abcd"]
    assert "d@example.org" not in text
    head = email.message_from_string(text)
    assert (head["Subject"], head["From"]) == ("Day 2026-01-15", "mill@example.org")
    assert (head["To"], head["Cc"]) == ("a@example.org, b@example.org", "c@example.org")
    assert found["text/plain"].get_payload().strip() == "plain 2026-01-15"
    assert found["text/html"].get_payload().strip() == "<b>2026-01-15</b>"
    assert found["day-2026-01-15.csv"].get_payload(decode=True) == b"a,b\n"
    assert found["page.html"].get_payload(decode=True) == b"<p>{{ ds }}</p>", "a file is sent as it is"


def test_a_letter_of_html_alone(worker, mail):
    EmailOperator(task_id="tell", conn_id="post", to="a@example.org", subject="s", html_content="<i>x</i>")
    worker("tell")
    assert list(parts(mail.messages[0])) == ["text/html"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"to": "", "subject": "s"}, "sends to nobody"),
        ({"to": "a@example.org", "subject": "one\nBcc: x@example.org"}, "head of a letter"),
        ({"to": "a@example.org", "subject": "s", "files": ["nowhere.csv"]}, 'no file "nowhere.csv"'),
        ({"to": "a@example.org", "subject": "s", "conn_id": "none"}, 'no connection "none"'),
        ({"to": "a@example.org", "subject": "s", "conn_id": None}, "no mail server"),
        ({"to": "stranger@example.org", "subject": "s"}, "refuses stranger@example.org"),
        ({"to": "a@example.org,stranger@example.org", "subject": "s"}, "not for stranger@example.org"),
    ],
)
def test_what_cannot_be_sent_is_told(worker, mail, given, told):
    mail.strangers = {"stranger@example.org"}
    EmailOperator(task_id="tell", **{"conn_id": "post", **given})
    assert told in worker("tell").error
