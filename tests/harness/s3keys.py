"""The keys of the tests' S3 server, for processes that need nothing else of it."""

from __future__ import annotations

KEY, SECRET = "key-of-tests", "secret-of-tests"
