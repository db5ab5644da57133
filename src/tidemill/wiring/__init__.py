"""Settings and entry points become adapters here, and only here."""
