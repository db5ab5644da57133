"""How the members of a group share its tasks: evenly, and with few moves when members come and go.

Each member acts on its own `Part` of what `share` says; a task that is to move is given up by its owner first, and
taken by another one after that. So no task ever has two owners, and no plan has to be agreed upon: every state of
owners leads to an even one by moves that each take a task from a member with too many to one with too few.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """What one member is to do."""

    take: frozenset[int]
    give_up: frozenset[int]


def share(tasks: int, members: Collection[str], owners: Mapping[int, str], me: str) -> Part:
    """What `me` is to take and to give up.

    Args:
        tasks: 0 to tasks - 1.
        members: who takes part, `me` among them.
        owners: who has which task; a task of nobody, or of somebody who is no member, is free.
        me: whose part to tell.
    """
    held: dict[str, list[int]] = {member: [] for member in members}
    free = []
    for task in range(tasks):
        owner = owners.get(task)
        if owner in held:
            held[owner].append(task)
        else:
            free.append(task)
    # Whoever has most keeps one more where it cannot be even: that moves fewest.
    order = sorted(held, key=lambda member: (-len(held[member]), member))
    each, more = divmod(tasks, len(order))
    room = {member: each + (at < more) for at, member in enumerate(order)}
    for member in order:
        want = max(room[member] - len(held[member]), 0)
        taken, free = free[:want], free[want:]
        if member == me:
            return Part(frozenset(taken), frozenset(held[me][room[me] :]))
    raise ValueError(f"{me} is no member")
