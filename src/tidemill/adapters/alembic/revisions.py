"""Port `schemas`, its revisions: a folder as Alembic has it, whose operations become statements for a destination.

    migrations/<destination>/alembic.ini, env.py, script.py.mako, versions/<id>_<message>.py

Alembic orders revisions and writes their operations as SQL, notes of versions included; it opens no connection. So one
way serves every destination, by the settings of its connection, and what is run is what `--sql` shows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from tidemill.model.errors import DefinitionError, TidemillError, UnknownName, UserError
from tidemill.model.migration import Migration, Part, Revision, Written

#: Between revision and revision of a folder nothing is told but what we tell.
logging.getLogger("alembic").setLevel(logging.WARNING)
_OPTION = "version_table"
_INI = """\
# Revisions of the tables that are delivered to "{name}". `tidemill schema` writes them and applies them;
# of Alembic's own commands, `alembic -c {place}/alembic.ini history` (heads, show, merge, edit) work as well.
[alembic]
script_location = %(here)s
file_template = %%(rev)s_%%(slug)s
path_separator = os
version_table = {versions}
"""
_ENV = '''\
"""Alembic looks here for a connection. Tidemill has it, so its own command applies revisions."""

raise SystemExit("tidemill schema upgrade {name}")
'''
_TEMPLATE = '''\
"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None
% if needs is not UNDEFINED and needs:


${needs}\\
% endif


def upgrade():
    ${upgrades if upgrades is not UNDEFINED and upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades is not UNDEFINED and downgrades else "pass"}
'''


class AlembicRevisions:
    """See the port.

    Args:
        root: the project's folder.
        place: of the revisions, from there on.
        name: of the destination.
        versions: the table of versions, for a new folder; an existing one says it itself.
    """

    def __init__(self, root: Path, place: str, name: str, versions: str) -> None:
        self._root, self._folder = root, root / place
        self.place, self._name = place, name
        self.versions = versions
        if self._folder.is_dir():
            self.versions = self._config().get_main_option(_OPTION) or versions

    def all(self) -> list[Revision]:
        """All of them."""
        if not self._folder.is_dir():
            return []
        with self._told():
            return [self._revision(one) for one in self._scripts().walk_revisions()][::-1]

    def write(self, message: str, written: Written) -> Revision:
        """Write the next one."""
        message = " ".join(message.split()).replace("\\", "/").replace('"', "'")
        if not message:
            raise DefinitionError("A revision needs a message.", hint='-m "orders have an amount"')
        self._make()
        known = self.all()
        head = self._head([one.id for one in known])
        # Two who write at the same time have the same number and different ids, so that neither hides the other.
        unique = sha256("\0".join([str(head), message, *map(str, (written.upgrade, written.downgrade))]).encode())
        revid = f"{len(known) + 1:04d}_{unique.hexdigest()[:4]}"
        with self._told():
            made = self._scripts().generate_revision(
                revid, message, head=head or "base", refresh=True, upgrades=_indented(written.upgrade),
                downgrades=_indented(written.downgrade), needs=written.needs,
            )  # fmt: skip
            assert made is not None
            return self._revision(made)

    def steps(self, applied: Sequence[str], target: str | None = None, *, down: bool = False) -> list[Migration]:
        """The steps from some applied revisions to a target."""
        from alembic.runtime.migration import MigrationContext
        from sqlalchemy.dialects.postgresql.base import PGDialect, PGIdentifierPreparer

        class Preparer(PGIdentifierPreparer):
            """Quotes all names: other databases keep other words for themselves."""

            def _requires_quotes(self, value: str) -> bool:
                return True

        class Dialect(PGDialect):
            """What all our databases understand."""

            preparer = Preparer
            supports_statement_cache = False
            insert_returning = update_returning = delete_returning = False

        make: Any = Dialect  # its constructor has no types
        self._head([one.id for one in self.all()])
        scripts, output = self._scripts(), _Output(self.versions)
        made: list[Migration] = []
        before = tuple(applied)
        wanted = target or "heads"

        def chosen(heads: Any, _context: Any) -> Any:
            known = heads or ()
            return scripts._downgrade_revs(wanted, known) if down else scripts._upgrade_revs(wanted, known)

        def noted(step: Any, heads: set[str], **_more: Any) -> None:
            nonlocal before
            after = tuple(sorted(heads))
            made.append(Migration(step.up_revision_id, self.versions, before, after, output.taken()))
            before = after

        with self._told(target):
            context = MigrationContext.configure(
                dialect=make(paramstyle="named"),
                opts={"as_sql": True, "literal_binds": True, "output_buffer": output, "version_table": self.versions,
                      "transaction_per_migration": True, "transactional_ddl": True, "script": scripts,
                      "starting_rev": list(applied) or None, "fn": chosen, "on_version_apply": (noted,)},
            )  # fmt: skip
            self._run(context)
        return made

    def _run(self, context: Any) -> None:
        from alembic.operations import Operations

        with Operations.context(context):
            context.run_migrations()

    # -- the folder

    def _make(self) -> None:
        (self._folder / "versions").mkdir(parents=True, exist_ok=True)
        told = {"name": self._name, "place": self.place, "versions": self.versions}
        for name, text in (("alembic.ini", _INI.format(**told)), ("env.py", _ENV.format(**told)),
                           ("script.py.mako", _TEMPLATE)):  # fmt: skip
            path = self._folder / name
            if not path.exists():
                path.write_text(text, "utf-8")

    def _config(self) -> Any:
        from alembic.config import Config

        path = self._folder / "alembic.ini"
        if not path.is_file():
            raise DefinitionError(
                f"There is no {self.place}/alembic.ini, so nothing says what the revisions in there are.",
                hint=f"take it from Git, or remove the folder: then deliveries to {self._name} alter tables themselves",
            )
        return Config(str(path))

    def _scripts(self) -> Any:
        from alembic.script import ScriptDirectory

        made = ScriptDirectory.from_config(self._config())
        made.messaging_opts = {"quiet": True}  # what is told is the command's to say
        return made

    def _head(self, ids: Sequence[str]) -> str | None:
        """The newest one; None: there is none."""
        if not ids:
            return None
        with self._told():
            heads = self._scripts().get_heads()
        if len(heads) > 1:
            raise DefinitionError(
                f"{' and '.join(sorted(heads))} both are the newest revision.",
                where=f"{self.place}/versions",
                hint=f"set down_revision of one to the other, or: alembic -c {self.place}/alembic.ini merge heads",
            )
        return str(heads[0])

    def _revision(self, script: Any) -> Revision:
        follows = script.down_revision
        ids = (follows,) if isinstance(follows, str) else tuple(follows or ())
        path = Path(script.path).resolve()
        shown = path.relative_to(self._root.resolve()) if path.is_relative_to(self._root.resolve()) else path
        return Revision(script.revision, script.doc.partition("\n")[0], ids, shown.as_posix())

    @contextmanager
    def _told(self, target: str | None = None) -> Iterator[None]:
        """Errors of Alembic's, and of what users have written into revisions, in our words."""
        from alembic.util.exc import CommandError

        try:
            yield
        except TidemillError:
            raise
        except CommandError as error:
            if target is not None and any(one.id.startswith(target) for one in self.all()):
                raise UserError(f"Nothing leads from what is applied to {target}.", where=self.place) from None
            if target is not None:
                raise UnknownName.of("revision", target, [one.id for one in self.all()], where=self.place) from None
            raise DefinitionError(f"The revisions cannot be read: {error}", where=self.place) from None
        except Exception as error:
            raise DefinitionError(
                f"A revision fails: {type(error).__name__}: {error}", where=_place(error, self._folder) or self.place
            ) from error


class _Output:
    """What Alembic would write into a file of SQL: a statement each time.

    Args:
        versions: the table of versions, which whoever applies them makes.
    """

    def __init__(self, versions: str) -> None:
        self._versions = f'CREATE TABLE "{versions}"'
        self._parts: list[tuple[bool, list[str]]] = []

    def write(self, text: str) -> None:
        """Take a statement."""
        statement = text.strip().removesuffix(";")
        if statement == "BEGIN":
            self._parts.append((True, []))
        elif statement == "COMMIT":
            self._parts.append((False, []))
        elif statement and not statement.startswith(("-- Running ", self._versions)):
            self._parts[-1][1].append(statement)

    def flush(self) -> None:
        """Nothing waits."""

    def taken(self) -> tuple[Part, ...]:
        """The parts of a step that has come to its end."""
        made = tuple(Part(tuple(statements), atomic) for atomic, statements in self._parts if statements)
        self._parts = [(False, [])]
        return made


def _indented(body: str) -> str:
    return body.replace("\n", "\n    ")


def _place(error: BaseException, folder: Path) -> str | None:
    """The line of a revision where an error came from."""
    import traceback

    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [f for f in traceback.extract_tb(error.__traceback__) if str(folder) in f.filename]
    return f"{lines[-1].filename}:{lines[-1].lineno}" if lines else None
