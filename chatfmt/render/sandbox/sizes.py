"""How much a container holds, all that is inside of it counted each time that it would be printed or compared.

A template that writes `[a, a]` for `a` sixty times has sixty small lists, which nobody can print. What a template
builds cannot be changed afterwards, so that a size once counted holds.
"""

from __future__ import annotations

from typing import Any

from jinja2.filters import _GroupTuple
from jinja2.utils import Cycler

_VIEWS = frozenset(map(type, ({}.keys(), {}.values(), {}.items())))
HOLDERS = frozenset((list, tuple, dict, _GroupTuple, Cycler)) | _VIEWS
"""The types of the containers whose sizes are counted."""
_KNOWN = 256
"""So many sizes are kept, those of the newest containers, which are kept alive by that."""


_FEW = 4
"""A container of no more than these is sooner counted again than remembered."""


class Sizes:
    """The sizes of the containers of one row, in elements."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, int]] = {}

    def clear(self) -> None:
        self._known.clear()

    def of(self, container: Any, most: int) -> tuple[int, int]:
        """The size of a list, tuple or dict, or one over `most`; and how many containers were looked into for it."""
        if (known := self._known.get(id(container))) is not None:
            return known[1], 0
        size, looked, waiting = 0, 0, [container]
        while waiting and size <= most:
            item = waiting.pop()
            if (known := self._known.get(id(item))) is not None:
                size += known[1]
                continue
            held = _elements(item)
            size, looked = size + len(held), looked + 1
            waiting += [element for element in held if type(element) in HOLDERS]
        if looked > _FEW:
            self._keep(container, size)
        return size, looked

    def joined(self, made: Any, left: Any, right: Any, most: int) -> None:
        """Take note of what was put together of two containers, so that it need not be looked through."""
        self._keep(made, self.of(left, most)[0] + self.of(right, most)[0])

    def _keep(self, container: Any, size: int) -> None:
        if len(self._known) >= _KNOWN:
            del self._known[next(iter(self._known))]
        self._known[id(container)] = (container, size)


def _elements(holder: Any) -> Any:
    if type(holder) is dict:
        return [*holder, *holder.values()]
    return holder.items if type(holder) is Cycler else holder
