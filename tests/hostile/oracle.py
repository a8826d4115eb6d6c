"""The slow reader: what JSON text holds, down to the kind of a number, the order of keys and which are absent."""

from __future__ import annotations

import json
from typing import Any


class Object(tuple[tuple[str, Any], ...]):
    """The pairs of a JSON object, in order; unlike any list."""

    __slots__ = ()


def exact(text: bytes | str) -> Any:
    """The value of JSON text; numbers as (kind, text of the value), objects as `Object`."""
    return json.loads(
        text,
        object_pairs_hook=Object,
        parse_int=lambda digits: ("int", str(int(digits))),
        parse_float=lambda digits: ("float", repr(float(digits))),
    )


def rows_of(content: bytes) -> list[Any]:
    """The records of JSON Lines, or of a JSON array."""
    text = content.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip().startswith(b"["):
        return list(exact(text))
    return [exact(line) for line in text.split(b"\n") if line.strip()]
