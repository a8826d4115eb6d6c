"""The items of lists that paths read by index: `choices[0]` leaves all others behind, as `choices[1:]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from msgspec import Struct, field

from ...dialects.kit.literals import read_literal
from ...field_path import Every, FieldPath, Step
from ...json_columns import decode_or_none
from ...turn_columns import IntArray, lengths_of

if TYPE_CHECKING:
    from .trace import Entry


class ReadItems(Struct, frozen=True):
    """The `indices` that are read of lists, by the paths of these lists as a ledger writes them: `turns[].choices`.

    `leaves` are the paths to what is read of their items.
    """

    indices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    leaves: frozenset[str] = frozenset()

    def joined(self, other: ReadItems) -> ReadItems:
        """Return the items of both, which are in different lists."""
        return ReadItems({**self.indices, **other.indices}, self.leaves | other.leaves)

    def others_like_read(self, left: Mapping[str, Entry]) -> dict[str, str]:
        """Return the paths in items that are left which other items are read at, if they hold text, as `content`."""
        found = {
            path[: len(path) - len(plain) + len(leaf)]
            for path, entry in left.items()
            if (plain := _OTHERS.sub("[]", path)) != path and any(isinstance(value, str) for value in entry.values)
            for leaf in self.leaves
            if f"{plain}.".startswith((f"{leaf}.", f"{leaf}["))
        }
        return dict.fromkeys(sorted(found), "content")


_OTHERS = re.compile(r"\[-?\d*:-?\d*\]")


def read_items(paths: Iterable[Sequence[Step]]) -> ReadItems:
    """Return the lists of which paths read some items by their index and no path reads all."""
    found: dict[str, set[int]] = {}
    listed: set[str] = set()
    whole: set[str] = set()
    for steps in paths:
        path = str(steps[0])
        for step in steps[1:]:
            if isinstance(step, int):
                found.setdefault(path, set()).add(step)
            elif step is Every.ITEM:
                listed.add(path)
            elif step is Every.VALUE:
                break
            path += f".{step}" if isinstance(step, str) else "[]"
        whole.add(path)
    inside = tuple(f"{path}{end}" for path in whole for end in ".[")
    read = {path: tuple(sorted(places)) for path, places in found.items() if path not in listed | whole}
    read = {path: places for path, places in read.items() if not path.startswith(inside)}
    return ReadItems(read, frozenset(path for path in whole if path.startswith(tuple(read))))


def step_of(place: int, length: int, read: Sequence[int]) -> str:
    """Return the step to the item at `place` of a list: `[]` if it is read, else the slice of those around it.

    With items 0 and -1 read, all others are `[1:-1]`.
    """
    places = {index % length if -length <= index < length else None: index for index in read}
    if place in places:
        return "[]"
    before = [at for at in places if at is not None and at < place]
    after = [at for at in places if at is not None and at > place]
    first = places[max(before)] + 1 if before else 0
    return f"[{first or ''}:{places[min(after)] if after else ''}]"


def list_of_others(path: str) -> str:
    """Return the slice of a list that a leaf is in, `choices[1:]`; empty if all its lists are read."""
    found = _OTHERS.search(path)
    return path[: found.end()] if found else ""


def find_others(batch: pa.RecordBatch, items: ReadItems) -> Iterator[tuple[str, IntArray]]:
    """Yield the slices of lists that are not read, `choices[1:]`, each with the rows that have one."""
    for path, read in items.indices.items():
        rows: dict[str, list[int]] = {}
        for row, length in _lengths(FieldPath.parse(path).column(batch), "[]" in path):
            for step in _others(length, read):
                rows.setdefault(path + step, []).append(row)
        yield from ((name, np.array(found, np.int64)) for name, found in rows.items())


@lru_cache
def _others(length: int, read: tuple[int, ...]) -> tuple[str, ...]:
    steps = dict.fromkeys(step_of(place, length, read) for place in range(length))
    return tuple(step for step in steps if step != "[]")


def _lengths(column: pa.Array, nested: bool) -> Iterator[tuple[int, int]]:
    """Yield the lengths of the list in each row, or of the lists in its list, each with the index of the row."""
    if pa.types.is_list(column.type) and not nested:
        yield from enumerate(lengths_of(column).tolist())
        return
    for row, text in enumerate(decode_or_none(column)):
        value = read_literal(text)
        lists = value if nested and isinstance(value, list) else [value]
        yield from ((row, len(inner)) for each in lists if isinstance(inner := read_literal(each), list))
