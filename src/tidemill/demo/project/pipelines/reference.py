"""What rarely changes: aircraft, airports, airlines. Run by hand when a new file has come: tidemill run reference 2013.

It has no schedule, so a run is told apart by the key that one gives it ("2013"): the same key is the same batch.
"""

import tidemill as tm

reference = tm.Pipeline("reference", doc="Aircraft, airports and airlines, by the codes that flights use.")

aircraft_file = reference.files("feeds/reference/planes.csv.gz")
airports_file = reference.files("feeds/reference/airports.csv.gz")
airlines_file = reference.files("feeds/reference/airlines.csv.gz")


@reference.table(key="tailnum", write="upsert")
def aircraft(aircraft_file):
    """The register of aircraft. A new file adds to it and corrects it: who left the register flew once, too."""
    return aircraft_file.rename(year="built").drop("speed")  # the speed is known of 23 aircraft in 3,322


@reference.table(write="replace")
def dim_airport(airports_file):
    """Airports by FAA code. The newest file is the whole truth."""
    return airports_file.select("faa", "name", "lat", "lon", "alt", zone="tzone")


@reference.table(write="replace")
def dim_airline(airlines_file):
    """Airlines by carrier code."""
    return airlines_file


aircraft.expect(tm.between("built", 1950, 2013), tm.between("seats", 1, 600), tm.not_null("manufacturer", "model"))
dim_airport.expect(tm.not_null("faa", "name"), tm.unique("faa"), tm.between("lat", -90, 90))
dim_airline.expect(tm.not_null("carrier", "name"), tm.unique("carrier"), tm.row_count(1))
