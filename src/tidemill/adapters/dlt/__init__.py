"""Resources and sources of dlt as feeds."""
