"""dbt projects: dbt itself is in an environment of its own, in a process that stays warm."""
