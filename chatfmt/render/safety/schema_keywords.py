"""The keywords of the JSON schemas of tools, such as `anyOf`, and tools without one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_OF_NAMES = frozenset(("properties", "patternProperties", "$defs", "definitions"))
"""Keywords of an object whose keys are names."""
_STRUCTURE = frozenset(("type", "function", "name", "parameters", "properties"))


def schema_keywords(tools: Any) -> list[str]:
    """Return the keywords of the tools and their schemas, but for those that every tool has, in order of appearance."""
    return [key for key in dict.fromkeys(_keys(tools)) if key not in _STRUCTURE]


def _keys(value: Any) -> Iterator[str]:
    for key, item in value.items() if isinstance(value, Mapping) else ():
        yield key
        yield from _keys(list(item.values()) if key in _OF_NAMES and isinstance(item, Mapping) else item)
    for item in value if isinstance(value, (list, tuple)) else ():
        yield from _keys(item)


def without_keyword(value: Any, keyword: str) -> Any:
    """Return tools or a schema without a keyword, wherever it is; a property of that name is none."""
    if isinstance(value, (list, tuple)):
        return [without_keyword(item, keyword) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: {name: without_keyword(each, keyword) for name, each in item.items()}
        if key in _OF_NAMES and isinstance(item, Mapping)
        else without_keyword(item, keyword)
        for key, item in value.items()
        if key != keyword
    }
