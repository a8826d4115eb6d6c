"""Sizes of containers, with nested containers counted as often as they would be printed or compared.

A template that sets `a = [a, a]` sixty times has sixty small lists that are impossible to print. A container that a
template has built cannot be changed, so its size is computed once.
"""

from __future__ import annotations

from typing import Any

from jinja2.filters import _GroupTuple
from jinja2.utils import Cycler

_VIEWS = frozenset(map(type, ({}.keys(), {}.values(), {}.items())))
HOLDERS = frozenset((list, tuple, dict, _GroupTuple, Cycler)) | _VIEWS
"""The types of containers that are measured."""
_CACHE_SIZE = 256
"""The number of sizes that are cached; the cache keeps their containers alive, so that no `id` is reused."""
CHARACTERS_PER_ITEM = 64
"""The characters of a text in a container that count as another element of it."""
_ELEMENTS = 4
"""The elements that are looked at in the time that a container takes."""
_SMALL = 4
"""A container with no more containers in it than this is measured again faster than cached."""


class Sizes:
    """The sizes, in elements, of the containers of one row."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, int]] = {}

    def clear(self) -> None:
        self._known.clear()

    def measure(self, container: Any, most: int) -> tuple[int, int]:
        """Return the size of a container, or some size over `most`, and the time to find it, in containers visited."""
        if (known := self._known.get(id(container))) is not None:
            return known[1], 0
        size, visited, waiting = 0, 0, [container]
        while waiting and size <= most:
            item = waiting.pop()
            if (known := self._known.get(id(item))) is not None:
                size += known[1]
                continue
            held = _elements(item)
            texts = sum([len(element) // CHARACTERS_PER_ITEM for element in held if type(element) is str])
            size, visited = size + len(held) + texts, visited + 1 + len(held) // _ELEMENTS
            waiting += [element for element in held if type(element) in HOLDERS]
        if visited > _SMALL:
            self._keep(container, size)
        return size, visited

    def add_concatenation(self, result: Any, left: Any, right: Any, most: int) -> None:
        """Cache the size of `left + right`, so that it need not be measured."""
        self._keep(result, self.measure(left, most)[0] + self.measure(right, most)[0])

    def _keep(self, container: Any, size: int) -> None:
        if len(self._known) >= _CACHE_SIZE:
            del self._known[next(iter(self._known))]
        self._known[id(container)] = (container, size)


def _elements(holder: Any) -> Any:
    if type(holder) is dict:
        return [*holder, *holder.values()]
    return holder.items if type(holder) is Cycler else holder
