"""What makes a rendered text differ from run to run: chance, and the addresses of objects in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from .environment import sandbox

ADDRESS = re.compile(r"<(?:[^<>\n]|<locals>){1,200} at (0x[0-9a-f]{6,16})>")


@lru_cache(maxsize=128)
def chance(text: str) -> tuple[str, ...]:
    """The names of what a template draws by chance (`random`, `lipsum`).

    Empty for text that does not compile, or is nested so deeply that the locked process refuses it.
    """
    if "random" not in text and "lipsum" not in text:  # names cannot be spelled otherwise
        return ()
    try:
        tree = sandbox().parse(text)
        filters = {node.name for node in tree.find_all(nodes.Filter)} & {"random"}
        names = {node.name for node in tree.find_all(nodes.Name)} & {"lipsum"}
    except (jinja2.TemplateSyntaxError, RecursionError):
        return ()
    return tuple(sorted(filters | names))


def address(text: str, inputs: Any) -> str | None:
    """The first object with its memory address that a rendered text prints; an address in `inputs` is data."""
    if " at 0x" not in text:
        return None
    for match in ADDRESS.finditer(text):
        if not any(match[1] in known for known in _texts(inputs)):
            return match[0]
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
