"""An installation that is elsewhere, by the API of its server."""
