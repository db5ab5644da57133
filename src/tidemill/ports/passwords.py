"""Port `passwords`: hashes of passwords, slow on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at a password has shown: whether it is the right one, and its hash, if that should be made anew."""

    is_right: bool
    renewed: str | None = None


class Passwords(Protocol):
    """Makes hashes, and looks whether a password is that of one.

    Promises: two hashes of one password differ; a hash says how it was made, so that old ones can be looked at after
    the parameters have grown; what is no hash is nobody's password, and no error. A look without a hash takes as long
    as one with a hash. No more than a few are worked on at a time, as each needs much memory; others wait.
    """

    def hash(self, password: str) -> str:
        """The hash of a password."""
        ...

    def look(self, password: str, kept: str | None) -> Looked:
        """Whether it is the password of a hash; None: there is none, and the answer is no."""
        ...
