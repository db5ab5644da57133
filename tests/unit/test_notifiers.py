"""Notices as they arrive at webhooks, at Slack, and by mail; and what refusals mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.listening import HttpListener, MailListener, listening
from tidemill.adapters.notify.mail import MailNotifier
from tidemill.adapters.notify.webhook import SlackNotifier, WebhookNotifier
from tidemill.model.errors import Refused, SettingsError, Unreachable
from tidemill.ports.notifier import Notice

NOTICE = Notice(
    "failed", "shop", "sales", 7, 3, datetime(2026, 1, 1, tzinfo=UTC), "sales: run 7 failed\nit <broke> & fell",
    {"error": "it broke"},
)  # fmt: skip


def test_a_webhook_gets_one_object_with_its_headers():
    hook = HttpListener()
    with listening(hook):
        WebhookNotifier(hook.url, {"Authorization": "Bearer t"}).send(NOTICE)
    assert hook.posted == [
        {"event": "failed", "project": "shop", "pipeline": "sales", "run_id": 7, "batch_id": 3,
         "at": "2026-01-01T00:00:00+00:00", "text": NOTICE.text, "error": "it broke"}
    ]  # fmt: skip
    assert hook.headers[0]["Authorization"] == "Bearer t"


def test_slack_gets_text_and_blocks_with_its_own_signs_escaped():
    hook = HttpListener()
    with listening(hook):
        SlackNotifier(hook.url).send(NOTICE)
    assert hook.posted[0]["text"] == ":x: sales: run 7 failed"
    assert hook.posted[0]["blocks"][1]["text"]["text"] == "```it &lt;broke&gt; &amp; fell```"


@pytest.mark.parametrize(("code", "error"), [(500, Unreachable), (429, Unreachable), (404, Refused), (400, Refused)])
def test_only_what_may_pass_is_tried_again(code, error):
    hook = HttpListener()
    hook.answers = [code]
    with listening(hook), pytest.raises(error, match=str(code)):
        WebhookNotifier(hook.url).send(NOTICE)


def test_nobody_there_is_unreachable_and_another_scheme_is_refused():
    with pytest.raises(Unreachable):
        WebhookNotifier("http://127.0.0.1:9/").send(NOTICE)
    with pytest.raises(Refused):
        WebhookNotifier("file:///etc/passwd").send(NOTICE)


def test_mail_has_a_subject_and_everybody_it_is_for():
    mail = MailListener()
    with listening(mail):
        MailNotifier(mail.url, "mill@example.org", ["a@example.org", "b@example.org"]).send(NOTICE)
    [message] = mail.messages
    assert "Subject: [shop] sales: run 7 failed" in message
    assert "To: a@example.org, b@example.org" in message
    assert "it <broke> & fell" in message
    with pytest.raises(Unreachable):
        MailNotifier("smtp://127.0.0.1:9", "m@example.org", ["a@example.org"]).send(NOTICE)
    with pytest.raises(SettingsError):
        MailNotifier("https://x", "m@example.org", ["a@example.org"])
