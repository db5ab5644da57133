"""Where things are."""

PLACES = ["north"]
