"""Public helpers for tests: manual clock, in-memory adapters, fault injection, conformance suites."""
