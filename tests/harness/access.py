"""What the tests of access share: stores of each kind, quick passwords, users."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

import pytest

from tidemill.adapters.argon2.passwords import Argon2Passwords
from tidemill.adapters.memory.access import MemoryAccess
from tidemill.flow.access import Asker, Gate, Limits, LoggedIn, LoginRefused
from tidemill.flow.users import Audit, People
from tidemill.model.access import Role
from tidemill.ports.access import AccessRecords
from tidemill.testing.clock import ManualClock

PASSWORD = "a sentence is long"
HERE = "192.0.2.7"
#: Argon2 with the least that it takes: 1 ms a look instead of 100.
QUICK = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}


T = TypeVar("T")


def there(value: T | None) -> T:
    """A value that must be."""
    assert value is not None
    return value


class House:
    """A gate with its people, over some records."""

    def __init__(self, records: AccessRecords | None = None, limits: Limits | None = None) -> None:
        self.clock = ManualClock()
        self.records = records or MemoryAccess()
        self.gate = Gate(self.records, Argon2Passwords(**QUICK), self.clock, limits)
        self.people = People(self.gate)
        self.audit = Audit(self.gate)

    def user(self, name: str = "ada", role: Role = Role.OPERATOR, **pipelines: Role) -> str:
        """A user with PASSWORD."""
        return self.people.add(Asker(), name, role, PASSWORD, pipelines).name

    def asker(self, name: str) -> Asker:
        """That user, at another computer."""
        with self.records.read() as tx:
            found = tx.users.get(name)
        assert found is not None
        return Asker(found.principal, HERE)

    def later(self, **by: float) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(**by))

    def told(self) -> list[tuple[str, str, str]]:
        """Who did what how, oldest first."""
        return [(one.who, one.action, one.result.value) for one in reversed(self.audit.page()[0])]


def fails(house: House, name: str = "ada", address: str = HERE, password: str = "wrong password") -> timedelta:
    """Fail to come in; gives how long the next try must wait."""
    with pytest.raises(LoginRefused) as caught:
        house.gate.login(name, password, address)
    assert caught.value.exit_code == 1
    return caught.value.wait


def comes_in(house: House, name: str = "ada", address: str = HERE, password: str = PASSWORD) -> LoggedIn:
    """Come in."""
    return house.gate.login(name, password, address, "Firefox")
