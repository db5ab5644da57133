"""Port `OwnVariables` of `DAG.test`: what a trial sets is there for the rest of the trial alone."""

from __future__ import annotations

from tidemill.ports.tasks import OwnVariables, Variables


class TriedVariables(OwnVariables):
    """The project's variables, with what was set and deleted since.

    Args:
        known: the project's, which are read, and not changed.
    """

    def __init__(self, known: Variables) -> None:
        self._known = known
        self._changed: dict[str, str | None] = {}

    def get(self, name: str) -> str | None:
        """The text of a variable."""
        return self._changed[name] if name in self._changed else self._known.get(name)

    def set(self, name: str, text: str) -> None:
        """Set one."""
        self._changed[name] = text

    def delete(self, name: str) -> bool:
        """Forget one."""
        there = self.get(name) is not None
        self._changed[name] = None
        return there
