"""Users' functions from row to row, one after the other, as one loop.

The loop's text is written for the number of functions: to ask for the next one takes 50 ns for each row, where one that
changes a number takes 120. Nothing of users' goes into the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tidemill.model.frame.operation import MapRows
from tidemill.model.frame.row import Row

#: Takes rows with their places, a list for what is made of them, and who is told of a row that cannot be taken: its
#: place, which of the functions could not, and why.
Chain = Callable[[Iterable[tuple[int, Row]], list[Mapping[str, Any]], Callable[[int, int, Exception], None]], None]

_TEXT = """
def chain(rows, made, failed):
    for place, row in rows:
        try:{calls}
        except Exception as error:
            failed(place, at, error)
        else:
            made.append(row)
"""
_CALL = """
            at = {at}
            row = function_{at}(row)
            if type(row) is not Row:
                row = taken({at}, row)"""


def chained(steps: Sequence[MapRows]) -> Chain:
    """The loop of some steps. Whatever a function raises is about its row."""
    last = len(steps) - 1

    def taken(at: int, result: object) -> Mapping[str, Any]:
        """What a function returned, as the next one gets it."""
        if type(result) is not dict and not isinstance(result, Mapping):
            raise TypeError(f"{steps[at].verb}: the function returned {type(result).__name__}, not a row")
        return result if at == last else Row(result)

    functions = {f"function_{at}": step.function for at, step in enumerate(steps)}
    # By the name of this module, places in users' files are found beyond it.
    names: dict[str, Any] = {"__name__": __name__, "Row": Row, "taken": taken, **functions}
    text = _TEXT.format(calls="".join(_CALL.format(at=at) for at in range(len(steps))))
    exec(compile(text, __file__, "exec"), names)  # noqa: S102
    made: Chain = names["chain"]
    return made
