"""`sources.webhook(...)`: how a user declares that others POST what a batch loads."""

from __future__ import annotations

from tidemill.authoring.options import records_path
from tidemill.authoring.place import placed
from tidemill.model.webhook import Webhook


def webhook(*, records: str | None = None, optional: bool = False) -> Webhook:
    """What others POST to `/feeds/<pipeline>/<source>` of `tidemill up`, by the settings' `[hooks]`.

    A body is JSON: an object, an array of them, or JSON Lines. It is answered by 202 once it is on the disk; each batch
    loads what came before it began. A body that comes again with the same `Idempotency-Key` counts once.

    Args:
        records: JSONPath of the records in a body; None: an array's elements, or the body itself.
        optional: a body without that place has no records; otherwise the batch fails.
    """
    if records is not None:
        placed(records_path, records)
    return Webhook(records, optional)
