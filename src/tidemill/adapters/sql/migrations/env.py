"""What Alembic runs for each upgrade: on the connection, and within the transaction, of `upgrade.py`."""

from __future__ import annotations

from alembic import context

from tidemill.adapters.sql.schema import schema_for, version

_connection = context.config.attributes["connection"]
context.configure(
    connection=_connection,
    target_metadata=schema_for(_connection.dialect.name),
    version_table=version.name,
    # SQLite alters little in place: Alembic makes the table anew.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
