"""Departures as they happen: a topic, and a table's function over it. `tidemill stream run`, or `tidemill up`, runs it.

tidemill demo                                          replays a week into the topic, and kills the process once
tidemill stream feed departures rows.jsonl             sends some of your own
tidemill stream show live.delay_per_airport_hour       shows what runs, and how far it is
"""

from flights import delay_per_airport_hour

import tidemill as tm

live = tm.Pipeline("live")

# A message a flight, sent when it has left: so in the order of departures, not in that of the schedule. An hour of the
# schedule is closed when flights leave that were scheduled a day after it; whoever comes later is too late for it.
departures = tm.topic(
    "departures",
    {"scheduled_at": "timestamptz", "origin": "string", "carrier": "string", "flight": "long", "dep_delay": "long"},
    key="origin",
    time="scheduled_at",
    lateness="1d",
    partitions=3,
)

# The line between table and topic: the rows go to the table live.delay_per_airport_hour.
live.stream(delay_per_airport_hour, clean_departures=departures, name="delay_per_airport_hour")
