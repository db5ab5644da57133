"""A decorated function is still a function: give it plain frames and look at what comes out."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from flights import beaufort, clean_departures, dim_plane

DEPARTURE = {
    "time_hour": datetime(2013, 1, 1, 10, tzinfo=UTC), "minute": 15, "carrier": "UA", "flight": 1545,
    "tailnum": "N14228", "origin": "EWR", "dest": "IAH", "dep_time": 517, "dep_delay": 2, "arr_delay": 11,
    "air_time": 227, "distance": 1400,
}  # fmt: skip
AIRCRAFT = pl.DataFrame(
    {"tailnum": ["N14228"], "built": [1999], "manufacturer": ["BOEING"], "model": ["737-824"], "seats": [149]}
)


def cleaned(*changes):
    """Cleaned departures, each like DEPARTURE but for its changes."""
    return clean_departures(pl.DataFrame([{**DEPARTURE, **change} for change in changes]))


def test_the_date_is_new_yorks():
    """In London it is January 2nd already when a plane leaves at half past eight in the evening."""
    evening = cleaned({"time_hour": datetime(2013, 1, 2, 1, tzinfo=UTC), "minute": 30})
    assert evening["flight_date"].to_list() == [date(2013, 1, 1)]
    assert evening["scheduled_at"].to_list() == [datetime(2013, 1, 2, 1, 30, tzinfo=UTC)]


def test_a_departure_is_late_after_a_quarter_of_an_hour():
    assert cleaned({"dep_delay": 15}, {"dep_delay": 16})["late"].to_list() == [False, True]


def test_what_never_left_was_cancelled_and_is_not_late():
    stayed = cleaned({"dep_time": None, "dep_delay": None}, {})
    assert stayed.select("cancelled", "late").rows() == [(True, None), (False, False)]


def test_an_aircrafts_day_begins_where_it_left_first():
    later = {"time_hour": datetime(2013, 1, 1, 18, tzinfo=UTC), "origin": "LGA"}
    planes = dim_plane(cleaned(later, {}), AIRCRAFT)
    assert planes.select("tailnum", "base", "seats").rows() == [("N14228", "EWR", 149)]


def test_an_aircraft_that_no_register_knows_gets_a_row():
    planes = dim_plane(cleaned({"tailnum": "N999XX"}), AIRCRAFT)
    assert planes.select("tailnum", "carrier", "seats").rows() == [("N999XX", "UA", None)]


@pytest.mark.parametrize(("mph", "force"), [(0.0, 0), (1.0, 1), (12.9, 3), (13.0, 4), (80.0, 12)])
def test_winds_have_a_force(mph, force):
    assert beaufort(mph) == force
