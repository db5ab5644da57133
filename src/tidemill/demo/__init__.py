"""The demo: real flights that left New York in 2013, as feeds that a project loads day by day."""
