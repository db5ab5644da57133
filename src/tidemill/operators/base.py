"""What an operator of one's own is made from: `BaseOperator`, with `execute(context)` and `template_fields`."""

from __future__ import annotations

from tidemill.authoring.task import BaseOperator

__all__ = ["BaseOperator"]
