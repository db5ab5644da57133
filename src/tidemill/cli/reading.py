"""Which ref a command reads, said whenever that could be misunderstood: after a failed run, or off `main`."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.cli.invocation import Invocation
from tidemill.model.branch import MAIN
from tidemill.ports.asked import Facts


def tell_ref(invocation: Invocation) -> str:
    """The ref to read; says on standard error which one it is where that matters."""
    ref = invocation.branch or MAIN
    if invocation.out.quiet:
        return ref
    text = told(ref, invocation.installation.lake.failed())
    if text:
        invocation.out.note(text)
    return ref


def told(ref: str, failed: Sequence[Facts]) -> str | None:
    """The sentence about the ref; None where `main` is read and nothing failed."""
    if ref != MAIN:
        mine = next((f for f in failed if f["branch"] == ref), None)
        return f"reading {ref}" + (f"; batch {mine['batch_id']} failed and is not on {MAIN}" if mine else "")
    if not failed:
        return None
    first = failed[0]
    where = f"is on branch {first['branch']}" if first["branch"] else "wrote no table"
    more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
    return f"reading {MAIN}; batch {first['batch_id']} failed and {where}{more}"
