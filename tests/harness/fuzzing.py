"""Schemathesis against a server's OpenAPI document: what is sent fits, or does not, and the answers must be as it says.

Names of real things stand in the paths of what fits, so that answers have content. Actions only tell what they would
do: what they do is other tests' affair.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

#: Requests of each kind for a route.
EXAMPLES = 2
_CHECKS: list[Any] = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip


def fuzz(url: str, names: Mapping[str, Sequence[str | int]], examples: int = EXAMPLES) -> int:
    """Ask every route for what fits and for what does not; says how many answers were looked at.

    Args:
        url: of the server.
        names: of real things, by the part of a path in which they stand.
        examples: requests of each kind for a route.
    """
    document = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")
    looked_at = 0
    for found in document.get_all_operations():
        operation = found.ok()
        if not operation.path.endswith("/events"):  # never ends; the tests of events listen to it
            looked_at += ask(operation, GenerationMode.POSITIVE, names, examples)
            raw = operation.definition.raw
            # A name in a path and a header are texts: nothing that is sent there does not fit.
            if "requestBody" in raw or any(one["in"] == "query" for one in raw["parameters"]):
                looked_at += ask(operation, GenerationMode.NEGATIVE, names, examples)
    return looked_at


def ask(operation: Any, mode: GenerationMode, names: Mapping[str, Sequence[str | int]], examples: int) -> int:
    """Ask one route, for what fits or for what does not; says how often."""
    fits, chance, asked = mode is GenerationMode.POSITIVE, random.Random(6), [0]
    checks = _CHECKS if fits else [*_CHECKS, negative_data_rejection]

    @seed(6)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def once(case: Case) -> None:
        if fits:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = chance.choice(names[name])
        if case.method == "POST":
            case.query = {**(case.query or {}), "dry_run": "true"}
        asked[0] += 1
        case.call_and_validate(checks=checks, timeout=60)

    once()
    return asked[0]
