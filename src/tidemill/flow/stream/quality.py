"""What a stream's checks have found, put together for people: in all, and by hour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidemill.flow.stream.plan import StreamPlan
from tidemill.model.expectation import Measured
from tidemill.plan.verdict import observed, passed
from tidemill.ports.streams import CheckCount


def quality_json(plan: StreamPlan, counted: Iterable[CheckCount]) -> list[dict[str, Any]]:
    """The checks of a stream as JSON values, those that it has now first; then those that were counted under others.

    `passed` holds what was found in all hours against `mostly` and `max_failed`; of a check that is gone it is None.
    """
    known = {
        (judge.judged, judge.check.name): judge.check
        for stage in plan.topology.stages
        for judge in plan.judges(stage)
    }  # fmt: skip
    hours: dict[tuple[str, str], list[CheckCount]] = {key: [] for key in known}
    for one in counted:
        hours.setdefault((one.judged, one.name), []).append(one)
    found = []
    for (judged, name), counts in hours.items():
        check = known.get((judged, name))
        in_all = Measured(sum(one.rows for one in counts), sum(one.failed for one in counts))
        found.append({
            "judged": judged,
            "name": name,
            "severity": check.severity.value if check is not None else counts[-1].severity,
            "expected": None if check is None else " ".join(t for t in (check.expected, check.threshold) if t),
            "rows": in_all.rows,
            "failed": in_all.failed,
            "passed": None if check is None else passed(check, in_all),
            "observed": None if check is None else observed(check, in_all),
            "hours": [{"hour": one.hour.isoformat(), "rows": one.rows, "failed": one.failed} for one in counts],
        })  # fmt: skip
    return found
