"""Notices by HTTP: a JSON object, or what Slack and its like take."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tidemill.model.errors import Refused, Unreachable
from tidemill.ports.notifier import Notice

#: Seconds that the other side has to answer.
TIMEOUT = 10.0
_RETRIED = (408, 425, 429)
_SIGNS = {"failed": ":x:", "late": ":hourglass:", "published": ":white_check_mark:"}


class WebhookNotifier:
    """Posts each notice as one JSON object.

    Args:
        url: where to.
        headers: further headers, such as a token.
    """

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self._url = url
        self._headers = dict(headers or {})

    def send(self, notice: Notice) -> None:
        """Post it."""
        self._post(self._body(notice))

    def _body(self, notice: Notice) -> dict[str, Any]:
        return {
            "event": notice.event,
            "project": notice.project,
            "pipeline": notice.pipeline,
            "run_id": notice.run_id,
            "batch_id": notice.batch_id,
            "at": notice.at.isoformat(),
            "text": notice.text,
            **dict(notice.details),
        }

    def _post(self, body: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "tidemill", **self._headers}
        if not self._url.startswith(("http://", "https://")):
            raise Refused(f'Notices cannot be sent to "{self._url.partition(":")[0]}:".', hint="https://...")
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310 - looked at above
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - looked at above
                answer.read(1024)
        except urllib.error.HTTPError as error:
            what = f"The webhook answered {error.code} {error.reason}."
            if error.code in _RETRIED or error.code >= 500:
                raise Unreachable(what) from None
            raise Refused(what) from None
        except (urllib.error.URLError, OSError) as error:
            raise Unreachable(f"The webhook does not answer: {getattr(error, 'reason', error)}.") from None


class SlackNotifier(WebhookNotifier):
    """Posts notices in the format of Slack's incoming webhooks, which Mattermost and others take too."""

    def _body(self, notice: Notice) -> dict[str, Any]:
        sign = {"failed": ":x:", "late": ":hourglass:", "published": ":white_check_mark:"}.get(
            notice.event, ":no_entry:"
        )
        head, _, rest = notice.text.partition("\n")
        blocks: list[dict[str, Any]] = [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"{sign} {_escaped(head)}"}}
        ]
        if rest:
            blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"```{_escaped(rest)[:2900]}```"}})
        return {"text": f"{sign} {_escaped(head)}", "blocks": blocks}


def _escaped(text: str) -> str:
    """Slack reads `<`, `>` and `&` as its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
