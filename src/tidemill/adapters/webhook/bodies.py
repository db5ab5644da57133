"""Bodies of JSON that others POST, taken apart into messages."""

from __future__ import annotations

import msgspec


def split(body: bytes) -> list[bytes]:
    """The messages of a body, each as it was written: an object, an array of them, or a line each.

    Raises:
        ValueError: it is no JSON; says where.
    """
    if not body.strip():
        raise ValueError("The body is empty.")
    try:
        if body.lstrip()[:1] == b"[":
            return [bytes(one) for one in msgspec.json.decode(body, type=list[msgspec.Raw])]
        msgspec.json.decode(body, type=msgspec.Raw)
        return [body.strip()]
    except msgspec.DecodeError as error:
        lines = [(number, line) for number, line in enumerate(body.splitlines(), 1) if line.strip()]
        if len(lines) < 2:
            raise ValueError(f"The body is no JSON: {error}.") from None
    for number, line in lines:
        try:
            msgspec.json.decode(line, type=msgspec.Raw)
        except msgspec.DecodeError as error:
            raise ValueError(f"Line {number} is no JSON: {error}.") from None
    return [line for _, line in lines]
