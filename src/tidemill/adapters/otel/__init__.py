"""OpenTelemetry: metrics and traces to a collector."""
