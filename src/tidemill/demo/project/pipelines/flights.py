"""Flights that left New York and the weather there, day by day: two feeds in; a star schema and delays out."""

# departures --> clean_departures --> fct_departures --> delay_by_carrier --> airline_delays
#                       |                 ^     |
#                       '--> dim_plane ---'     '------> delay_by_weather
#                                                               ^
# weather ------------------------------------------------------'

import polars as pl

import tidemill as tm

NEW_YORK = "America/New_York"

# Each run is about one day as New York's clocks have it: `{{ ds }}` is its date. Feeds arrive by local date too.
flights = tm.Pipeline("flights", schedule="@daily", start="2013-01-01", end="2013-02-01", zone=NEW_YORK)

# Feeds ------------------------------------------------------------------------------------------------------
# Files are archived byte for byte, then loaded into tables of the same names. A line that does not fit the table goes
# to flights.departures__quarantine with the reason; more than one in a hundred, and the feed is not worth loading.

departures = flights.files("feeds/flights/{{ ds }}.csv.gz", max_rejected=0.01)
weather = flights.files("feeds/weather/{{ ds }}.jsonl.gz", optional=True)  # stations fall silent

departures.expect(
    tm.not_null("time_hour", "carrier", "flight", "origin", "dest"),
    tm.in_set("origin", ["EWR", "JFK", "LGA"]),
    tm.row_count(500, 1200, of="batch"),  # of="batch": this day's rows, not the whole table's
)
weather.expect(
    tm.unique("origin", "time_hour"),
    tm.between("wind_speed", 0, 150, max_failed=3),  # on February 12th Newark's station reported 1,048 miles an hour
    tm.fresh_within("time_hour", "3h", severity="warn"),  # before the end of the day: replays are judged alike
)

# Silver: cleaned --------------------------------------------------------------------------------------------


@flights.table(key=["time_hour", "carrier", "flight"], write="upsert", partition="day(time_hour)")
def clean_departures(departures):  # a parameter: the rows that this run's batch brings of that table
    """One row a scheduled departure, cancelled ones included; a correction that comes later replaces the row."""
    scheduled_at = tm.col("time_hour") + pl.duration(minutes="minute")
    return departures.select(
        "time_hour", "carrier", "flight", "tailnum", "origin", "dest",
        "dep_delay", "arr_delay", "air_time", "distance",
        flight_date=scheduled_at.dt.convert_time_zone(NEW_YORK).dt.date(),
        scheduled_at=scheduled_at,
        cancelled=tm.col("dep_time").is_null(),
        late=tm.col("dep_delay") > 15,
    )  # fmt: skip


clean_departures.expect(
    # Most flights leave within an hour or two; one in a hundred may be far off before it is the feed that is wrong.
    tm.between("dep_delay", -60, 600, mostly=0.99),  # minutes
    tm.expect(tm.col("distance") / tm.col("air_time") * 60 < 767, name="slower_than_sound"),  # miles an hour
    tm.matches("tailnum", r"^N[1-9][0-9A-Z]{0,4}$", mostly=0.99),
)

# Gold: the star schema --------------------------------------------------------------------------------------


@flights.table(key="tailnum", write="history", order="since", surrogate_key="plane_key")
def dim_plane(clean_departures, aircraft=tm.whole("reference.aircraft")):  # tm.whole(): all rows, not this batch's
    """Every aircraft through time: who flew it, and from which airport its day began. What changes gets a new version.

    Tidemill adds plane_key, valid_from, valid_to and is_current. Times come from the data (`order`), never from the
    clock, so loading a day late, or again, gives the same versions.
    """
    flown = clean_departures.filter(~tm.col("cancelled"), tm.col("tailnum").is_not_null())
    seen = flown.group_by("tailnum").agg(
        since=tm.agg.min("scheduled_at"),
        carrier=tm.agg.earliest("carrier", on="scheduled_at"),
        base=tm.agg.earliest("origin", on="scheduled_at"),
    )
    # One aircraft in six is not in the register: it flew all the same, so it gets a row, with nulls.
    return seen.join(aircraft.select("tailnum", "built", "manufacturer", "model", "seats"), on="tailnum", how="left")


fct_departures = flights.sql("models/fct_departures.sql")

dim_plane.expect(tm.not_null("plane_key", "tailnum", "carrier"), tm.unique("plane_key"))
fct_departures.expect(
    tm.unique("time_hour", "carrier", "flight"),
    tm.references("carrier", "reference.dim_airline"),
    # Known gaps, so only told: airports of Puerto Rico are not in the list.
    tm.references("dest", "reference.dim_airport", "faa", severity="warn"),
    # A day that is filled in late may move the start of a later version; running the days after it again heals that.
    tm.references("plane_key", "dim_plane", severity="warn"),
)

# Gold: delays -----------------------------------------------------------------------------------------------


@flights.table
def delay_per_airport_hour(clean_departures):
    """A row an airport and scheduled hour. In live.py the same function reads a topic, as flights leave."""
    hours = clean_departures.tumbling_window("1h", on="scheduled_at", by="origin")
    return hours.agg(departures=tm.agg.count(), mean_dep_delay=tm.agg.mean("dep_delay")).final()


@flights.function
def beaufort(mph: float) -> int:
    """The force of a wind on Beaufort's scale. Models call it by its name; a null gives a null."""
    limits = (1, 4, 8, 13, 19, 25, 32, 39, 47, 55, 64, 73)
    return sum(mph >= limit for limit in limits)


delay_by_carrier = flights.sql("models/delay_by_carrier.sql")
delay_by_weather = flights.sql("models/delay_by_weather.sql")
flights.sql("models/airline_delays.sql")

delay_by_carrier.expect(
    tm.not_null("flight_date", "carrier"),
    tm.expect(tm.col("cancelled") <= tm.col("flights"), name="cancelled_are_flights"),
)
delay_by_weather.expect(tm.between("departures", 1), tm.between("beaufort", 0, 12))

if __name__ == "__main__":
    print(flights.run("2013-01-01"))  # in this process: breakpoints stop in the functions above
