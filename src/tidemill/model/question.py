"""What a task asks people, and what one of them has answered. Both are kept with the task as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: What a task that asks people waits for: the name of the trigger.
ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        subject: in one line.
        options: what may be chosen; one of them, or several where `multiple`.
        body: more of it.
        defaults: what counts as chosen when nobody has answered in time; None: the task fails then.
        multiple: several options may be chosen.
        form: JSON schema by the name of what else is to be filled in.
        people: names of those who may answer; none: whoever may begin runs.
        asked_at: when.
        until: when the time to answer is over; None: never.
    """

    subject: str
    options: tuple[str, ...]
    body: str = ""
    defaults: tuple[str, ...] | None = None
    multiple: bool = False
    form: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    people: tuple[str, ...] = ()
    asked_at: datetime | None = None
    until: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON values; times as ISO text."""
        return {
            "subject": self.subject, "options": list(self.options), "body": self.body,
            "defaults": None if self.defaults is None else list(self.defaults), "multiple": self.multiple,
            "form": {name: dict(schema) for name, schema in self.form.items()}, "people": list(self.people),
            "asked_at": self.asked_at and self.asked_at.isoformat(), "until": self.until and self.until.isoformat(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Question:
        """What `as_json` has made."""
        defaults = found["defaults"]
        return cls(
            found["subject"], tuple(found["options"]), found["body"], None if defaults is None else tuple(defaults),
            found["multiple"], found["form"], tuple(found["people"]), _moment(found["asked_at"]),
            _moment(found["until"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        chosen: options.
        form: values, by name.
        by: who did; None: nobody in time, and these are the defaults.
        at: when.
    """

    chosen: tuple[str, ...]
    form: Mapping[str, Any]
    by: str | None
    at: datetime

    def as_json(self) -> dict[str, Any]:
        """JSON values; the time as ISO text."""
        return {"chosen": list(self.chosen), "form": dict(self.form), "by": self.by, "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Answer:
        """What `as_json` has made."""
        return cls(tuple(found["chosen"]), found["form"], found["by"], datetime.fromisoformat(found["at"]))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
