-- A row a day and carrier; delays in minutes.
{{ config(materialized="incremental") }}

select
    flight_date,
    carrier,
    count(*) as flights,
    count(*) filter (cancelled) as cancelled,
    count(*) filter (late) as late,
    avg(dep_delay) as mean_dep_delay,
    quantile_cont(dep_delay, 0.9) as p90_dep_delay,
    avg(arr_delay) as mean_arr_delay
from {{ batch("fct_departures") }}
group by flight_date, carrier
