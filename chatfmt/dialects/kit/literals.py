"""Lists and objects written as text: JSON or Python literals."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from ... import json_columns

_BETWEEN_OBJECTS = re.compile(r"\}\s*\n\s*\{")
_TEXT = re.compile(r"""("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)(\s+(?=['"]))?""", re.DOTALL)
"""A text in a Python literal, and the space between it and the next."""


def read_literal(value: Any) -> Any:
    """Return the list or object in text, written as JSON or as a Python literal; any other value unchanged.

    Numpy prints lists without commas. A Python string literal holds no raw line break, so a line break between two
    objects stands for such a comma, and so does space between two texts.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json_columns.loads(value)
    except ValueError:
        pass
    literal = _TEXT.sub(lambda text: text[1] + ("," if text[2] else ""), value)
    for source in (literal, _BETWEEN_OBJECTS.sub("}, {", literal)):
        try:
            return _plain(ast.literal_eval(source.strip()))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return value


def read_list_literal(value: Any) -> Any:
    """Return what `read_literal` does, with the objects in a list of texts read too.

    `'[{"role": …}]'` and `['{"role": …}', '{"role": …}']` both are a list of objects.
    """
    found = read_literal(value)
    if not isinstance(found, list) or not found or not isinstance(found[0], str):  # the usual case in detection
        return found
    if not all(isinstance(item, str) for item in found):
        return found
    if not all(item.lstrip().startswith("{") for item in found):
        return found
    items = [read_literal(item) for item in found]
    return items if all(isinstance(item, dict) for item in items) else found


def read_objects(value: Any) -> Any:
    """Like `read_literal`, but also read JSON objects that follow one another (as in Glaive) as a list."""
    found = read_literal(value)
    if not isinstance(found, str) or not found.lstrip().startswith("{"):
        return found
    rest, objects = found.strip(), []
    try:
        while rest:
            _, end = json.JSONDecoder().raw_decode(rest)
            objects.append(json_columns.loads(rest[:end]))
            rest = rest[end:].lstrip()
    except ValueError:
        return found
    return objects


def are_texts(value: Any) -> bool:
    """Return whether a value is a list of texts, and not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def are_objects(value: Any) -> bool:
    """Return whether a value is a list of objects, and not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _plain(value: Any) -> Any:
    """Return the value with tuples as lists; raises TypeError for a value that JSON cannot hold."""
    value = json_columns.to_plain(value)
    json_columns.dumps(value)
    return value
