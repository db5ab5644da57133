"""The peers of `load.py`, one module each; `bench/peer.py` says what such a module offers."""
