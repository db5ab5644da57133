"""Letters as tasks, through an SMTP server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import LimitError, UserError
from tidemill.plan.fields import render_field
from tidemill.ports.mail import Letter

if TYPE_CHECKING:
    from tidemill.plan.template import Sandbox

#: What mail servers take at most, as a rule; a letter grows by a third on its way.
_MOST_BYTES = 25_000_000


class EmailOperator(BaseOperator):
    """Sends a letter.

    Args:
        to: an address, several in a list, or several in a text with commas; `cc` and `bcc` likewise.
        subject: one line.
        html_content: the letter as HTML. `body`: as plain text; both: a reader shows what it can.
        files: paths of files that go with it, relative to the project; templates.
        from_email: the sender; left out, that of the connection.
        conn_id: a connection `smtp://user:password@host:587`; left out, the mail server of the project's notices.
        options: those of every task.
    """

    kind = "email"
    template_fields: Sequence[str] = ("to", "cc", "bcc", "subject", "html_content", "body", "from_email")
    template_ext: Sequence[str] = (".html", ".txt")

    def __init__(
        self,
        *,
        to: Any,
        subject: str,
        html_content: str = "",
        body: str = "",
        cc: Any = (),
        bcc: Any = (),
        files: Sequence[str] = (),
        from_email: str = "",
        conn_id: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.to, self.cc, self.bcc = to, cc, bcc
        self.subject = subject
        self.html_content = html_content
        self.body = body
        # No template field: a name that ends in .html would be taken for that of a template's file.
        self.files = [files] if isinstance(files, str) else list(files)
        self.from_email = from_email
        self.conn_id = conn_id

    def execute(self, context: TaskContext) -> Any:
        """Send it."""
        to = _addresses(self.to)
        if not to:
            raise UserError(f'"{self.task_id}" sends to nobody.', where=self.place, hint='to="team@example.org"')
        letter = Letter(
            to,
            self.subject,
            self.body,
            self.html_content,
            _addresses(self.cc),
            _addresses(self.bcc),
            self.from_email,
            tuple(self._files(context)),
        )
        context.services.need_outside().mail(self.conn_id).send(letter)
        self.log.info("sent to %s", ", ".join((*letter.to, *letter.cc)))

    def _files(self, context: TaskContext) -> list[tuple[str, bytes]]:
        made, size = [], 0
        for name in render_field(self.files, context, sandbox=_sandbox, where=self.place):
            path = context.services.root / str(name)
            if not path.is_file():
                raise UserError(f'There is no file "{name}" to send.', where=self.place)
            size += path.stat().st_size
            if size > _MOST_BYTES:
                raise LimitError(f"The files have more than {_MOST_BYTES // 10**6} MB.", hint="send a link to them")
            made.append((path.name, path.read_bytes()))
        return made


def _sandbox() -> Sandbox:
    from tidemill.plan.template import Sandbox

    return Sandbox()


def _addresses(given: Any) -> tuple[str, ...]:
    found = given.replace(";", ",").split(",") if isinstance(given, str) else list(given or ())
    return tuple(address.strip() for address in found if address.strip())
