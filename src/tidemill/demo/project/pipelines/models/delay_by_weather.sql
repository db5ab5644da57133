-- What wind and frost do to departures, over all days: not incremental, so each run makes the table anew.
-- Weather is observed once an hour at each airport; departures of an hour without a credible wind are left out.
select
    beaufort(w.wind_speed) as beaufort,
    w.temp < 32 as frost,
    count(*) as departures,
    avg(f.dep_delay) as mean_dep_delay,
    avg(f.late::int) as share_late
from {{ ref("fct_departures") }} as f
join {{ ref("weather") }} as w using (origin, time_hour)
where not f.cancelled and w.wind_speed <= 150
group by all
order by all
