"""What the demo must publish, computed from its feeds with pandas and plain loops, and never through Tidemill."""

from __future__ import annotations

import bisect
from importlib.resources import files
from pathlib import Path

import pandas as pd

DATA = Path(str(files("tidemill"))) / "demo" / "data"
DAYS = [f"2013-01-{day:02}" for day in range(1, 9)]
#: Miles an hour from which a wind has force 1, 2, ... 12.
BEAUFORT = [1, 4, 8, 13, 19, 25, 32, 39, 47, 55, 64, 73]

#: Where airports go among three partitions, by Kafka's hash of the key (murmur2).
PARTITIONS = {"EWR": 1, "JFK": 1, "LGA": 0}


def departures() -> pd.DataFrame:
    """The flights as the feeds have them."""
    read = [pd.read_csv(DATA / "flights" / f"{day}.csv.gz") for day in DAYS]
    return pd.concat(read, ignore_index=True).assign(time_hour=lambda f: pd.to_datetime(f.time_hour, utc=True))


def weather() -> pd.DataFrame:
    """The observations as the feeds have them."""
    read = [pd.read_json(DATA / "weather" / f"{day}.jsonl.gz", lines=True, dtype=False) for day in DAYS]
    return pd.concat(read, ignore_index=True).assign(time_hour=lambda f: pd.to_datetime(f.time_hour, utc=True))


def small(name: str) -> pd.DataFrame:
    """One of the small tables; no airline is called null."""
    return pd.read_csv(DATA / f"{name}.csv.gz", keep_default_na=False, na_values=[""])


def clean_departures() -> pd.DataFrame:
    """Departures with their date, scheduled moment, and whether they were cancelled or late."""
    found = departures()
    found["scheduled_at"] = found.time_hour + pd.to_timedelta(found.minute, unit="min")
    found["flight_date"] = pd.to_datetime(found[["year", "month", "day"]]).dt.date
    found["cancelled"] = found.dep_time.isna()
    found["late"] = (found.dep_delay > 15).astype(object).where(found.dep_delay.notna(), None)
    kept = ["time_hour", "carrier", "flight", "tailnum", "origin", "dest", "dep_delay", "arr_delay", "air_time"]
    return found[[*kept, "distance", "flight_date", "scheduled_at", "cancelled", "late"]]


def dim_plane() -> list[dict[str, object]]:
    """Every version of every aircraft, found by walking through the days."""
    register = {row.tailnum: row for row in small("planes").itertuples()}
    versions: dict[str, list[dict[str, object]]] = {}
    flown = clean_departures().query("not cancelled and tailnum.notna()")
    for _, day in flown.groupby("flight_date"):
        first: dict[str, tuple[object, ...]] = {}
        for row in day.itertuples():
            if row.tailnum not in first or row.scheduled_at < first[row.tailnum][0]:
                first[row.tailnum] = (row.scheduled_at, row.carrier, row.origin)
        for tailnum, (since, carrier, base) in first.items():
            known = register.get(tailnum)
            so_far = versions.setdefault(tailnum, [])
            if so_far and (so_far[-1]["carrier"], so_far[-1]["base"]) == (carrier, base):
                continue
            if so_far:
                so_far[-1] |= {"valid_to": since, "is_current": False}
            so_far.append({
                "tailnum": tailnum, "carrier": carrier, "base": base, "since": since,
                "built": None if known is None or pd.isna(known.year) else int(known.year),
                "manufacturer": None if known is None else known.manufacturer,
                "model": None if known is None else known.model,
                "seats": None if known is None else int(known.seats),
                "valid_from": since, "valid_to": None, "is_current": True,
            })  # fmt: skip
    return [version for found in versions.values() for version in found]


def plane_versions() -> list[object]:
    """For each clean departure, in order: when the version of its aircraft began, None where there is none."""
    begun: dict[str, list[object]] = {}
    for version in dim_plane():
        begun.setdefault(str(version["tailnum"]), []).append(version["valid_from"])
    found: list[object] = []
    for row in clean_departures().itertuples():
        starts = begun.get(row.tailnum, [])
        at = bisect.bisect_right(starts, row.scheduled_at) - 1  # type: ignore[type-var]
        found.append(starts[at] if at >= 0 else None)
    return found


def delay_by_carrier() -> pd.DataFrame:
    """A row a day and carrier."""
    groups = clean_departures().groupby(["flight_date", "carrier"])
    return pd.DataFrame({
        "flights": groups.size(),
        "cancelled": groups.cancelled.sum(),
        "late": groups.late.agg(lambda late: int(sum(late.dropna()))),
        "mean_dep_delay": groups.dep_delay.mean(),
        "p90_dep_delay": groups.dep_delay.quantile(0.9),
        "mean_arr_delay": groups.arr_delay.mean(),
    }).reset_index()  # fmt: skip


def delay_per_airport_hour() -> pd.DataFrame:
    """A row an airport and hour of the schedule."""
    found = clean_departures().assign(window_start=lambda f: f.scheduled_at.dt.floor("h"))
    groups = found.groupby(["origin", "window_start"])
    made = pd.DataFrame({"departures": groups.size(), "mean_dep_delay": groups.dep_delay.mean()}).reset_index()
    return made.assign(window_end=made.window_start + pd.Timedelta(hours=1))


def closed_hours() -> pd.DataFrame:
    """Those of them that are over a day before the last flight of their partition was to leave."""
    last = clean_departures().groupby(clean_departures().origin.map(PARTITIONS)).scheduled_at.max()
    hours = delay_per_airport_hour()
    return hours[hours.window_end <= hours.origin.map(PARTITIONS).map(last) - pd.Timedelta(days=1)]


def delay_by_weather() -> pd.DataFrame:
    """A row for each force of the wind, with and without frost."""
    flown = clean_departures().query("not cancelled")
    met = flown.merge(weather(), on=["origin", "time_hour"])
    met = met[met.wind_speed <= 150]
    met = met.assign(beaufort=[bisect.bisect_right(BEAUFORT, mph) for mph in met.wind_speed])
    met["frost"] = met.temp < 32
    groups = met.groupby(["beaufort", "frost"])
    return pd.DataFrame({
        "departures": groups.size(),
        "mean_dep_delay": groups.dep_delay.mean(),
        "share_late": groups.late.agg(lambda late: sum(late) / len(late)),
    }).reset_index()  # fmt: skip


def airline_delays() -> pd.DataFrame:
    """A row an airline, worst first."""
    named = clean_departures().merge(small("airlines"), on="carrier")
    groups = named.groupby("name")
    found = pd.DataFrame({
        "flights": groups.size(),
        "cancelled": groups.cancelled.sum(),
        "share_late": groups.late.agg(lambda late: sum(late.dropna())) / groups.size(),
        "mean_dep_delay": groups.dep_delay.mean(),
    })  # fmt: skip
    return found.rename_axis("airline").reset_index().sort_values("mean_dep_delay", ascending=False)
