-- The facts: a row a departure. batch() is what this run brought; as the model is incremental, it is added to what
-- other days brought, and a second run of a day replaces that day's rows.
{{ config(materialized="incremental", partition="day(time_hour)") }}

select
    d.time_hour,
    d.carrier,                -- dim_airline
    d.flight,
    d.flight_date,
    d.scheduled_at,
    d.origin,                 -- dim_airport
    d.dest,                   -- dim_airport
    p.plane_key,              -- dim_plane: the version that was valid at that time; null where no plane is known
    d.distance,
    d.air_time,
    d.dep_delay,
    d.arr_delay,
    d.cancelled,
    d.late
from {{ batch("clean_departures") }} as d
left join {{ ref("dim_plane") }} as p
    on p.tailnum = d.tailnum
    and d.scheduled_at >= p.valid_from
    and (d.scheduled_at < p.valid_to or p.is_current)
