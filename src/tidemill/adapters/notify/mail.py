"""Notices by mail, through an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from tidemill.model.errors import Refused, SettingsError, Unreachable
from tidemill.ports.notifier import Notice

TIMEOUT = 20.0
#: Server answers from here on are final; those below (4xx) may be tried again.
_FINAL = 500


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
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise SettingsError("The address of the mail server cannot be read.", hint="smtp://user:password@host:587")
        self._parts = parts
        self._sender = sender
        self._to = list(to)

    def send(self, notice: Notice) -> None:
        """Send it."""
        message = EmailMessage()
        head, _, rest = notice.text.partition("\n")
        message["Subject"] = f"[{notice.project}] {head}"
        message["From"] = self._sender
        message["To"] = ", ".join(self._to)
        message.set_content(f"{head}\n\n{rest}\n" if rest else f"{head}\n")
        try:
            with self._connect() as server:
                server.send_message(message)
        except smtplib.SMTPResponseException as error:
            told = (
                error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            )
            what = f"The mail server answered {error.smtp_code} {told}."
            raise (Refused(what) if error.smtp_code >= _FINAL else Unreachable(what)) from None
        except smtplib.SMTPRecipientsRefused as error:
            raise Refused(f"The mail server refuses {', '.join(error.recipients)}.") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Unreachable(f"The mail server does not answer: {error}.") from None

    def _connect(self) -> smtplib.SMTP:
        parts, context = self._parts, ssl.create_default_context()
        host = parts.hostname or ""
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(host, parts.port or 25, timeout=TIMEOUT)
            if server.has_extn("starttls") or (server.ehlo()[0] == 250 and server.has_extn("starttls")):
                server.starttls(context=context)
                server.ehlo()
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        return server
