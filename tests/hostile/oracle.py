"""The slow reader: the exact contents of JSON text, with types of numbers, order of keys and absent keys."""

from __future__ import annotations

import json
from typing import Any


class Object(tuple[tuple[str, Any], ...]):
    """The pairs of a JSON object, in order; never equal to a list."""

    __slots__ = ()


def exact(text: bytes | str) -> Any:
    """Return the value of JSON text; numbers as (type, text), objects as `Object`."""
    return json.loads(
        text,
        object_pairs_hook=Object,
        parse_int=lambda digits: ("int", str(int(digits))),
        parse_float=lambda digits: ("float", repr(float(digits))),
    )


def rows_of(content: bytes) -> list[Any]:
    """Return the records of JSON Lines or a JSON array."""
    text = content.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip().startswith(b"["):
        return list(exact(text))
    return [exact(line) for line in text.split(b"\n") if line.strip()]
