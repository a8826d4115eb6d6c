"""Find what makes a rendered text differ from run to run: randomness, and memory addresses of objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from jinja2 import nodes

from .environment import DOES_NOT_PARSE, sandbox

MOST_SHOWN = 50_000
"""Characters of an error that are kept."""
ADDRESS = re.compile(r"<(?:[^<>\n]|<locals>){1,200} at (0x[0-9a-f]{6,16})>")


@lru_cache(maxsize=128)
def random_names(text: str) -> tuple[str, ...]:
    """Return the names of the random functions that a template uses (`random`, `lipsum`).

    Empty for text that does not compile, or is nested so deeply that the sandbox process refuses it.
    """
    if "random" not in text and "lipsum" not in text:  # names cannot be spelled otherwise
        return ()
    try:
        tree = sandbox().parse(text)
        filters = {node.name for node in tree.find_all(nodes.Filter)} & {"random"}
        names = {node.name for node in tree.find_all(nodes.Name)} & {"lipsum"}
    except DOES_NOT_PARSE:
        return ()
    return tuple(sorted(filters | names))


def find_address(text: str, inputs: Any) -> str | None:
    """Return the first `<… at 0x…>` in a rendered text, unless its address occurs in `inputs`, where it is data."""
    if " at 0x" not in text:
        return None
    for match in ADDRESS.finditer(text):
        if not any(match[1] in known for known in _texts(inputs)):
            return match[0]
    return None


def cut_short(text: str) -> str:
    """Return a text without what is beyond MOST_SHOWN: an error may hold a whole row."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def without_addresses(text: str) -> str:
    """Return an error text, cut short, without the memory addresses in it, so that it is the same in every run."""
    text = cut_short(text)
    return ADDRESS.sub(lambda found: found[0].replace(f" at {found[1]}", ""), text) if " at 0x" in text else text


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
