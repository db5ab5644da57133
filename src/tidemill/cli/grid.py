"""Tables as aligned text, fitted to a width: what does not fit is cut or hidden, and counted so that it can be said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tidemill.cli.text import cut, width

#: Between columns.
GAP = "  "
#: No column is shrunk below this.
_LEAST = 8

#: Gives a text a look; the identity where there are no colours.
Paint = Callable[[str, str], str]


def unpainted(text: str, _style: str) -> str:
    """No colours."""
    return text


class Styled(str):
    """A cell with a look of its own."""

    style: str

    def __new__(cls, text: str, style: str) -> Styled:
        """Make one; `style` is a name that `Paint` knows."""
        made = super().__new__(cls, text)
        made.style = style
        return made


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, whether it is aligned to the right, and when it gives way.

    `yields`: columns of the highest number are hidden first where the table is too wide; 0 is only shrunk. `wraps`:
    what does not fit goes on in the next line, instead of being cut.
    """

    name: str
    right: bool = False
    yields: int = 0
    wraps: bool = False


@dataclass(slots=True)
class Grid:
    """A rendered table, and what had to give way."""

    lines: list[str]
    hidden: list[str] = field(default_factory=list)
    cut_cells: int = 0


def render(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    within: int | None = None,
    longest: int | None = None,
    heading: bool = True,
    paint: Paint = unpainted,
) -> Grid:
    """Align the rows.

    Args:
        columns: the columns.
        rows: their cells.
        within: columns of the terminal that there are; None: any number.
        longest: the most columns that one cell may take; None: any number.
        heading: False leaves the headings out.
        paint: gives headings and styled cells their look.
    """
    cells = [list(row) for row in rows]
    widths = [max([width(c.name) if heading else 0, *(width(row[i]) for row in cells)]) for i, c in enumerate(columns)]
    if longest is not None:
        widths = [min(w, max(longest, width(c.name))) for w, c in zip(widths, columns, strict=True)]
    shown = _fit(columns, widths, within)
    grid = Grid([], [columns[i].name for i in range(len(columns)) if i not in shown])
    if heading:
        line = [paint(_pad(cut(columns[i].name, widths[i]), widths[i], columns[i].right), "heading") for i in shown]
        grid.lines.append(GAP.join(line).rstrip())
    for row in cells:
        texts = {i: _lines(row[i], widths[i], columns[i].wraps) for i in shown}
        grid.cut_cells += sum(texts[i] == [cut(row[i], widths[i])] != [row[i]] for i in shown)
        for height in range(max((len(t) for t in texts.values()), default=1)):
            line = []
            for i in shown:
                text = texts[i][height] if height < len(texts[i]) else ""
                padded = _pad(text, widths[i], columns[i].right)
                kind = row[i]
                line.append(paint(padded, kind.style) if isinstance(kind, Styled) else padded)
            grid.lines.append(GAP.join(line).rstrip())
    return grid


def _lines(text: str, limit: int, wraps: bool) -> list[str]:
    """The lines of a cell."""
    if not wraps or width(text) <= limit:
        return [cut(text, limit)]
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if width(longer) <= limit or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [cut(line, limit) for line in lines]


def _pad(text: str, to: int, right: bool) -> str:
    space = " " * (to - width(text))
    return space + text if right else text + space


def _fit(columns: Sequence[Column], widths: list[int], within: int | None) -> list[int]:
    """Which columns are shown; `widths` is narrowed in place. First those that yield go, then the widest shrink, then
    the last ones go.
    """
    shown = list(range(len(columns)))
    if within is None:
        return shown

    def excess() -> int:
        return sum(widths[i] for i in shown) + len(GAP) * (len(shown) - 1) - within

    for step in sorted({c.yields for c in columns if c.yields}, reverse=True):
        if excess() > 0:
            shown = [i for i in shown if columns[i].yields != step]
    least = [min(w, max(_LEAST, min(width(c.name), 16))) for w, c in zip(widths, columns, strict=True)]
    while len(shown) > 1 and sum(least[i] for i in shown) + len(GAP) * (len(shown) - 1) > within:
        shown.pop()
    while excess() > 0:
        room = [i for i in shown if widths[i] > least[i]]
        if not room:
            break
        widest = max(room, key=lambda i: widths[i])
        second = max([least[widest], *(widths[i] for i in room if widths[i] < widths[widest])])
        widths[widest] -= min(excess(), max(1, widths[widest] - second))
    return shown
