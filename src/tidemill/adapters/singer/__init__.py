"""Singer taps: programs that write what they read as lines of JSON."""
