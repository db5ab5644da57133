"""Programs over topics, made at random: each step as it is written on a frame, and as the naive implementation does it.

A program keeps to a few columns, so that any step can follow any other: a key `k` (text), numbers `v` and `x`, a list
`l`, a struct `s`, and one column of times, whatever it is called. `Kinds` says what is there after a step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.stream_kinds import AFTER_CHANGES, VERBS, Absent, Kinds, Step
from harness.stream_steps_in_sql import IN_SQL
from harness.stream_steps_on_groups import ON_GROUPS
from harness.stream_steps_on_rows import ON_ROWS

_MAKERS = {**ON_ROWS, **ON_GROUPS, **IN_SQL}


def make(verb: str, rng: random.Random, kinds: Kinds) -> Step:
    """A step of a verb. Raises Absent where its input does not have what it needs."""
    if kinds.changing is not None and verb not in AFTER_CHANGES:
        raise Absent
    return _MAKERS[verb](rng, kinds)


# Programs as trees


@dataclass
class Branch:
    """A step of a program, and the steps that go on with its rows."""

    step: Step
    then: list[Branch] = field(default_factory=list)

    def without(self, step: Step) -> list[Branch]:
        """The tree without a step, and without what goes on with its rows."""
        if self.step is step:
            return []
        return [Branch(self.step, [branch for one in self.then for branch in one.without(step)])]

    def paths(self, before: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
        """The steps up to each place where rows come out."""
        here = (*before, self.step)
        yield here
        for branch in self.then:
            yield from branch.paths(here)


def grow(rng: random.Random, kinds: Kinds, verb: str, *, width: int, avoid: Sequence[str] = ()) -> Branch | None:
    """A tree: up to two steps, then one of a verb, then one of each verb that can follow, some with another.

    Args:
        rng: what decides.
        kinds: of the first rows.
        verb: of the step that others follow.
        width: how many follow at most.
        avoid: verbs that shall not come before others, or at all where several follow.
    """
    before: list[Step] = []
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        step = _tried(rng.choice([v for v in VERBS if v not in avoid]), rng, before[-1].kinds if before else kinds)
        if step is not None and step.kinds.changing is None:
            before.append(step)
    middle = _tried(verb, rng, before[-1].kinds if before else kinds)
    if middle is None:
        before = []
        middle = _tried(verb, rng, kinds)
    if middle is None:
        return None
    tree = Branch(middle)
    following = [v for v in (*VERBS, "unique_last", "window_current") if v not in avoid]
    rng.shuffle(following)
    for one in following[:width]:
        step = _tried(one, rng, middle.kinds)
        if step is not None:
            last = _tried(rng.choice(VERBS), rng, step.kinds) if rng.random() < 0.1 and not avoid else None
            tree.then.append(Branch(step, [] if last is None else [Branch(last)]))
    for step in reversed(before):
        tree = Branch(step, [tree])
    return tree


def grow_pairs(rng: random.Random, kinds: Kinds, verb: str, pool: Sequence[str]) -> Branch | None:
    """A tree that begins with a verb: three ways on by two more of a pool, and behind these all others.

    So each step stands behind three others, and a tree of about thirty steps has about ninety pairs.
    """
    root = _tried(verb, rng, kinds)
    if root is None:
        return None
    tree = Branch(root)
    last = [*VERBS, "unique_last", "window_current"]
    rng.shuffle(last)
    if root.kinds.changing is not None:
        tree.then += _branches(AFTER_CHANGES, rng, root.kinds)
        return tree
    for number in range(3):
        at = tree
        for _ in range(2):
            step = next((s for s in (_tried(rng.choice(pool), rng, at.step.kinds) for _ in range(4)) if s), None)
            if step is not None and step.kinds.changing is None:
                at.then.append(Branch(step))
                at = at.then[-1]
        at.then += _branches(last[number::3], rng, at.step.kinds)
    return tree


def _branches(verbs: Sequence[str], rng: random.Random, kinds: Kinds) -> list[Branch]:
    return [Branch(step) for verb in verbs if (step := _tried(verb, rng, kinds)) is not None]


def _tried(verb: str, rng: random.Random, kinds: Kinds) -> Step | None:
    try:
        return make(verb, rng, kinds)
    except Absent:
        return None
