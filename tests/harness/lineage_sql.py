"""Random SELECTs over two small tables of whole numbers, from a small grammar. What they give depends on values only:
nothing in them goes by the order of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

COLUMNS = {"x": ("a", "b", "c"), "y": ("d", "e")}


@dataclass(frozen=True)
class Statement:
    """A query and the names of its results."""

    sql: str
    names: tuple[str, ...]


def a_statement(random: Random, depth: int = 2) -> Statement:
    """A query, with others within it while there is depth left."""
    kind = random.choice(("plain", "plain", "grouped", "windowed", "together", "with"))
    if depth and kind == "together":
        left, right = (_narrow(random, a_statement(random, depth - 1)) for _ in range(2))
        word = random.choice(("UNION ALL", "UNION", "EXCEPT", "INTERSECT"))
        return Statement(f"({left.sql}) {word} ({right.sql})", left.names)
    if depth and kind == "with":
        inner = a_statement(random, depth - 1)
        outer = _select(random, [("w", inner.names), ("x", COLUMNS["x"])][: random.randint(1, 2)], "plain", 0)
        return Statement(f"WITH w AS ({inner.sql}) {outer.sql}", outer.names)
    sources = [(table, COLUMNS[table]) for table in random.sample(sorted(COLUMNS), random.randint(1, 2))]
    return _select(random, sources, kind, depth)


def _narrow(random: Random, inner: Statement) -> Statement:
    """One column of a query."""
    name = random.choice(inner.names)
    return Statement(f"SELECT {name} AS n0 FROM ({inner.sql}) z", ("n0",))


def _select(random: Random, sources: list[tuple[str, tuple[str, ...]]], kind: str, depth: int) -> Statement:
    read: list[str] = []
    columns: list[str] = []
    for at, (table, names) in enumerate(sources):
        if depth and random.random() < 0.3:
            inner = a_statement(random, depth - 1)
            table, names = f"({inner.sql})", inner.names
        read.append(f"{table} s{at}")
        columns += [f"s{at}.{name}" for name in names]
    text = read[0]
    for at, other in enumerate(read[1:], start=1):
        left = [one for one in columns if one.startswith("s0.")]
        right = [one for one in columns if one.startswith(f"s{at}.")]
        how = random.choice(("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
        text += f" {how} {other} ON {random.choice(left)} = {random.choice(right)}"
    where = f" WHERE {_condition(random, columns, depth)}" if random.random() < 0.5 else ""
    if kind == "grouped":
        keys = random.sample(columns, random.randint(0, min(2, len(columns))))
        parts = [*keys, *(_aggregate(random, columns) for _ in range(random.randint(1, 2)))]
        tail = random.choice((" GROUP BY ALL", f" GROUP BY {', '.join(keys)}")) if keys else ""
        if keys and random.random() < 0.3:
            tail += f" HAVING max({random.choice(columns)}) > 1"
    else:
        parts = [_value(random, columns, depth) for _ in range(random.randint(1, 3))]
        tail = ""
        if kind == "windowed":
            parts.append(f"sum({random.choice(columns)}) OVER (PARTITION BY {random.choice(columns)})")
            parts.append(f"rank() OVER (ORDER BY {random.choice(columns)})")
        if random.random() < 0.2:
            tail = f" QUALIFY count(*) OVER (PARTITION BY {random.choice(columns)}) > 1"
    word = "SELECT DISTINCT" if kind == "plain" and random.random() < 0.2 else "SELECT"
    names = tuple(f"n{at}" for at in range(len(parts)))
    listed = ", ".join(f"{part} AS {name}" for part, name in zip(parts, names, strict=True))
    return Statement(f"{word} {listed} FROM {text}{where}{tail}", names)


def _value(random: Random, columns: list[str], depth: int) -> str:
    one, other = random.choice(columns), random.choice(columns)
    inner = f"(SELECT max(y.d) FROM y WHERE y.e {random.choice(('=', '<'))} {one})" if depth else other
    return random.choice(
        (one, one, f"{one} + {other}", f"coalesce({one}, {other})", f"CASE WHEN {one} > 1 THEN {other} END", inner, "7")
    )


def _aggregate(random: Random, columns: list[str]) -> str:
    one, other = random.choice(columns), random.choice(columns)
    return random.choice(
        (f"sum({one})", f"min({one} + {other})", "count(*)", f"count(DISTINCT {one})", f"arg_max({one}, {one})",
         f"sum({one}) FILTER (WHERE {other} > 1)", f"len(list({one} ORDER BY {other}))")
    )  # fmt: skip


def _condition(random: Random, columns: list[str], depth: int) -> str:
    one, other = random.choice(columns), random.choice(columns)
    found = [f"{one} > {other}", f"{one} = 1", f"{one} IS NOT NULL"]
    if depth:
        found += [f"{one} IN (SELECT x.a FROM x WHERE x.b > {other})", f"EXISTS (SELECT 1 FROM y WHERE y.d = {one})"]
    return random.choice(found)
