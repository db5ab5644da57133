"""Notices by mail, through an SMTP server."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.adapters.notify.smtp import SmtpMail
from tidemill.ports.mail import Letter
from tidemill.ports.notifier import Notice


class MailNotifier:
    """Sends each notice as a message.

    Args:
        url: of the server: `smtp://user:password@host:25` (STARTTLS where it is offered) or `smtps://...`.
        sender: the message's From.
        to: who gets it.

    Raises:
        SettingsError: the URL is none of a mail server's.
    """

    def __init__(self, url: str, sender: str, to: Sequence[str]) -> None:
        self._mail = SmtpMail.of_url(url, sender)
        self._to = tuple(to)

    def send(self, notice: Notice) -> None:
        """Send it."""
        head, _, rest = notice.text.partition("\n")
        text = f"{head}\n\n{rest}\n" if rest else f"{head}\n"
        self._mail.send(Letter(self._to, f"[{notice.project}] {head}", text))
