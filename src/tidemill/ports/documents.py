"""Port `documents`: text that people write, as values with places."""

from __future__ import annotations

from typing import Protocol

from tidemill.model.document import Node


class Documents(Protocol):
    """Reads documents of one format.

    Promises: nothing in them is executed or looked up; names of a mapping are texts, and none comes twice; only `true`
    and `false` are booleans, and dates are texts.
    """

    def read(self, text: str, file: str) -> Node:
        """One document.

        Args:
            text: of it.
            file: how errors call it.

        Raises:
            DefinitionError: it is none; `where` is `file:line:column`.
        """
        ...
