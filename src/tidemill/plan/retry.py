"""When a failed task is tried again."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from tidemill.model.graph import Retry


def wait_before(retry: Retry, failed: int, seed: str) -> timedelta | None:
    """The wait before the next try; None where there is none left.

    Args:
        retry: the policy.
        failed: tries that have failed.
        seed: what tells this wait from others (run, task, try): the same seed gives the same jitter, so that a
            scheduler that takes over comes to the same moment.
    """
    if failed > retry.times:
        return None
    # A wait beyond `longest` is cut; computing it first would overflow after some hundred tries.
    longest = retry.longest.total_seconds()
    seconds = retry.delay.total_seconds()
    for _ in range(failed - 1):
        if retry.factor == 1 or seconds >= longest:
            break
        seconds *= retry.factor
    shorter = retry.jitter * _share(seed) if retry.jitter else 0.0
    return timedelta(seconds=min(seconds, longest) * (1 - shorter))


def _share(seed: str) -> float:
    """A number between 0 and 1 that belongs to `seed`."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=7).digest(), "big") / (1 << 56)
