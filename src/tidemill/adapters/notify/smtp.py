"""Port `mail` through an SMTP server; notices go the same way."""

from __future__ import annotations

import mimetypes
import smtplib
import ssl
from email.message import EmailMessage
from typing import Self
from urllib.parse import unquote, urlsplit

from tidemill.model.errors import Refused, SettingsError, Unreachable
from tidemill.ports.mail import Letter

TIMEOUT = 20.0
#: Server answers from here on are final; those below (4xx) may be tried again.
_FINAL = 500
_SCHEMES = ("smtp", "smtps")


class SmtpMail:
    """A mail server.

    Args:
        scheme: `smtp` (STARTTLS where it is offered) or `smtps`.
        host, port: its address; 0: the scheme's port.
        login, password: empty: nobody has to log in.
        sender: From, where a letter names none.

    Raises:
        SettingsError: this is no mail server's address.
    """

    def __init__(
        self, scheme: str, host: str, port: int = 0, login: str = "", password: str = "", sender: str = ""
    ) -> None:
        if scheme not in _SCHEMES or not host:
            raise SettingsError("The address of the mail server cannot be read.", hint="smtp://user:password@host:587")
        self._scheme, self._host, self._port = scheme, host, port
        self._login, self._password = login, password
        self._sender = sender

    @classmethod
    def of_url(cls, url: str, sender: str) -> Self:
        """The server of `smtp://user:password@host:587`. Raises SettingsError."""
        parts = urlsplit(url)
        login, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(parts.scheme, parts.hostname or "", parts.port or 0, login, password, sender)

    def send(self, letter: Letter) -> None:
        """Send a letter. A server that refuses one of several readers has not taken it for all: that is an error."""
        everybody = [*letter.to, *letter.cc, *letter.bcc]
        try:
            message = _message(letter, letter.sender or self._sender)
            with self._connect() as server:
                refused = server.send_message(message, to_addrs=everybody)
        except smtplib.SMTPResponseException as error:
            told = (
                error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            )
            what = f"The mail server answered {error.smtp_code} {told}."
            raise (Refused(what) if error.smtp_code >= _FINAL else Unreachable(what)) from None
        except smtplib.SMTPRecipientsRefused as error:
            raise Refused(f"The mail server refuses {', '.join(error.recipients)}.") from None
        except smtplib.SMTPNotSupportedError as error:
            raise Refused(f"The mail server cannot do that: {error}.") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Unreachable(f"The mail server does not answer: {error}.") from None
        if refused:
            raise Refused(f"The mail server took it, but not for {', '.join(refused)}.")

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port or 465, timeout=TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port or 25, timeout=TIMEOUT)
            if server.has_extn("starttls") or (server.ehlo()[0] == 250 and server.has_extn("starttls")):
                server.starttls(context=context)
                server.ehlo()
        if self._login:
            server.login(self._login, self._password)
        return server


def _message(letter: Letter, sender: str) -> EmailMessage:
    """The letter as SMTP takes it. Raises Refused: a line break where none may be would begin another header."""
    message = EmailMessage()
    try:
        message["Subject"] = letter.subject
        message["From"] = sender
        message["To"] = ", ".join(letter.to)
        if letter.cc:
            message["Cc"] = ", ".join(letter.cc)
    except ValueError as error:
        raise Refused(f"This cannot be the head of a letter: {error}.") from None
    if letter.text or not letter.html:
        message.set_content(letter.text)
        if letter.html:
            message.add_alternative(letter.html, subtype="html")
    else:
        message.set_content(letter.html, subtype="html")
    for name, content in letter.files:
        kind = (mimetypes.guess_type(name)[0] or "application/octet-stream").split("/")
        message.add_attachment(content, maintype=kind[0], subtype=kind[1], filename=name)
    return message
