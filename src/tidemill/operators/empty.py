"""A task that does nothing: a place in the order where several lines meet."""

from __future__ import annotations

from tidemill.authoring.task import BaseOperator


class EmptyOperator(BaseOperator):
    """Does nothing."""

    kind = "empty"
