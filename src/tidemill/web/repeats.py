"""Requests that come twice: what was done for an Idempotency-Key is not done again, and is answered as before.

The key is written down before anything is done, in a transaction of its own, and the answer after it. Where a process
dies between the two, the same key is refused: what became of it is known by looking, and nothing is done twice.
A key is known for a day; who sends again later than that asks for something new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tidemill.model.branch import MAIN
from tidemill.model.errors import TidemillError, Unreachable
from tidemill.web.problems import Unwelcome
from tidemill.web.table import Asked, Endpoint

#: Letters of a key.
LONGEST = 200
HEADER = "idempotency-key"
#: How long a key is known.
KNOWN = timedelta(hours=24)


def once(endpoint: Endpoint, asked: Asked, body: bytes, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do it, or answer as the request with the same key was answered.

    Raises:
        Unwelcome: 409: the key was another request's, or what became of its first one is not known.
    """
    key = asked.request.headers.get(HEADER)
    if key is None or not endpoint.changes or getattr(asked.query, "dry_run", False):
        return act()
    if not 0 < len(key) <= LONGEST:
        raise Unwelcome(400, f"An Idempotency-Key has 1 to {LONGEST} letters.")
    request = asked.request
    asks = _digest(request.method, request.url.path, request.url.query, body)
    mark = _digest(asked.principal.name, key)
    metadata, now = asked.backend.metadata, asked.backend.clock.now()
    with metadata.write() as tx:
        # A lock that all takers of keys share: on PostgreSQL two of them would not see each other.
        tx.refs.lock(MAIN)
        # Both go by the time of the key: an answer never goes before its question.
        for kind in ("request.", "answer."):
            tx.events.forget(kind, now - KNOWN)
        begun = tx.events.pending(f"request.{mark}", 1)
        done = tx.events.pending(f"answer.{mark}", 1)
        number = None if begun else tx.events.add(f"request.{mark}", {"asks": asks}, now)
    if begun:
        if begun[0].payload["asks"] != asks:
            raise _in_use("That Idempotency-Key was another request's.", "a key of its own for each action")
        if not done:
            raise _in_use("A request with that Idempotency-Key is under way, or was cut off.", "look what it has done")
        found: dict[str, Any] = done[0].payload["answer"]
        return found
    try:
        answer = act()
    except TidemillError as error:
        if not isinstance(error, Unreachable):
            with metadata.write() as tx:  # it was refused as a whole: the key may be tried again
                tx.events.done(number, asked.backend.clock.now())
        raise
    with metadata.write() as tx:
        tx.events.add(f"answer.{mark}", {"answer": answer}, now)
    return answer


def _in_use(what: str, hint: str) -> Unwelcome:
    return Unwelcome(409, what, hint=hint, kind="key-in-use")


def _digest(*parts: str | bytes) -> str:
    made = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        made.update(len(content).to_bytes(8, "big") + content)
    return made.hexdigest()[:32]
