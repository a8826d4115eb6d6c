"""Lists and objects that a column holds as text: JSON, or the print of a Python value."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from ... import json_columns

_BETWEEN_OBJECTS = re.compile(r"\}\s*\n\s*\{")


def read_literal(text: str) -> Any:
    """The list or object that `text` writes as JSON or as a Python literal (numpy's print of one too), else `text`.

    A Python string literal holds no raw line break, so that one between two objects is numpy's missing comma.
    """
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return json_columns.loads(text)
    except ValueError:
        pass
    for source in (text, _BETWEEN_OBJECTS.sub("}, {", text)):
        try:
            return _plain(ast.literal_eval(source.strip()))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def read_objects(text: str) -> Any:
    """As `read_literal`, and several JSON objects one after another (as Glaive lists functions) as a list."""
    found = read_literal(text)
    if not isinstance(found, str) or not text.lstrip().startswith("{"):
        return found
    rest, objects = text.strip(), []
    try:
        while rest:
            _, end = json.JSONDecoder().raw_decode(rest)
            objects.append(json_columns.loads(rest[:end]))
            rest = rest[end:].lstrip()
    except ValueError:
        return text
    return objects


def _plain(value: Any) -> Any:
    """The value with tuples as lists; raises TypeError for what JSON cannot hold."""
    value = json_columns.to_plain(value)
    json_columns.dumps(value)
    return value
