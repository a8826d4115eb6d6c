"""Which rows of the parts go where, and in what order: by what they say, never by who read them.

Conversations are chosen, not rows: the rows that one conversation became stay or go together. In this order:

* `dedup` keeps the first of equal conversations, in the order of the splits, then of the sources;
* a weight takes each conversation of a source (in each split) so often as it says whole, and a part of them once more,
  those whose hashes draw the lowest numbers; sources are then mixed in proportion, each in its own order;
* `test_fraction` sends conversations to the split `test` by their hashes alone, so equal ones are never in two splits;
* `shuffle` puts the rows of each split in an order fixed by the seed and their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import asdict, replace

from ... import mapping
from ...recipe import Recipe
from ..conversion.row_counts import RowCounts

Numbers = np.ndarray[Any, np.dtype[np.int64]]
TEST = "test"
CHUNK = 1 << 16
"""Hashes that are Python objects at a time."""


class Conversations(Struct, frozen=True, eq=False):
    """A row each: where its output rows begin among those of all parts, how many they are, and what it is chosen by."""

    start: Numbers
    length: Numbers
    hash: np.ndarray[Any, np.dtype[np.uint64]]
    """n × 2."""
    split: Numbers
    """Number of its split, in the order of the output."""
    source: Numbers

    def __len__(self) -> int:
        return len(self.start)

    def take(self, chosen: np.ndarray[Any, Any]) -> Conversations:
        return Conversations(**{name: column[chosen] for name, column in asdict(self).items()})


class Selection(Struct, frozen=True, eq=False):
    """The rows of each split, in order, by their numbers among those of all parts; `counts` tell what that changed."""

    rows: Mapping[str, Numbers]
    counts: RowCounts


def to_conversations(tags: Sequence[pa.Array], first_row: int, split: int, source: int) -> Conversations:
    """The conversations of a part, from the tags of its batches; `first_row` is the number of its first row."""
    octets = [np.frombuffer(tag.buffers()[1], np.uint8)[tag.offset * 20 :][: len(tag) * 20] for tag in tags]
    table = np.concatenate([*octets, np.empty(0, np.uint8)]).reshape(-1, 20)
    places = np.ascontiguousarray(table[:, 16:]).view(np.uint32).ravel()
    begins = np.ones(len(table), bool)
    begins[1:] = places[1:] != places[:-1]
    ends = np.cumsum([0, *(len(tag) for tag in tags)])
    begins[ends[ends < len(table)]] = True
    start = np.flatnonzero(begins).astype(np.int64)
    length = np.diff(start, append=len(table)).astype(np.int64)
    hashes = np.ascontiguousarray(table[start, :16]).view(np.uint64).reshape(-1, 2)
    same = np.ones(len(start), np.int64)
    return Conversations(start + first_row, length, hashes, same * split, same * source)


def joined(parts: Sequence[Conversations]) -> Conversations:
    """The conversations of all parts, in order."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in Conversations.__struct_fields__
    }
    return Conversations(**columns)


def select(recipe: Recipe, splits: Sequence[str], found: Conversations) -> Selection:
    """What the recipe chooses of the conversations, which come in the order of the output; `splits` names theirs."""
    counts = RowCounts()
    kept = found.take(first_of_equal(found)) if recipe.dedup else found
    counts.duplicates = rows_of(found) - rows_of(kept)
    copies = count_copies(recipe, kept)
    counts.filtered = int(kept.length[copies == 0].sum())
    counts.added = int((kept.length * np.maximum(copies - 1, 0)).sum())
    taken = kept.take(weighted(recipe, kept, copies))
    names = list(splits)
    if recipe.test_fraction:
        names += [] if TEST in names else [TEST]
        chosen = np.concatenate([part < recipe.test_fraction for part in places(taken, "split", recipe.seed)])
        taken = replace(taken, split=np.where(chosen, names.index(TEST), taken.split))
    return Selection({name: rows(recipe, taken, number) for number, name in enumerate(names)}, counts)


def rows_of(found: Conversations) -> int:
    return int(found.length.sum())


def first_of_equal(found: Conversations) -> Numbers:
    """The places of the conversations whose like was not there before, in order."""
    order = np.lexsort((found.hash[:, 0], found.hash[:, 1]))  # stable: equal ones stay in order
    hashes = found.hash[order]
    new = np.ones(len(order), bool)
    new[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
    return np.sort(order[new])


def count_copies(recipe: Recipe, found: Conversations) -> Numbers:
    """How often each conversation is taken."""
    copies = np.ones(len(found), np.int64)
    for number, spec in enumerate(recipe.source):
        if spec.weight == 1:
            continue
        for split in np.unique(found.split):
            mine = np.flatnonzero((found.source == number) & (found.split == split))
            whole, rest = divmod(spec.weight, 1)
            drawn = np.concatenate([*places(found.take(mine), "sample", recipe.seed), np.empty(0)])
            again = np.argsort(drawn, kind="stable")[: round(rest * len(mine))]
            copies[mine] = int(whole)
            copies[mine[again]] += 1
    return copies


def weighted(recipe: Recipe, found: Conversations, copies: Numbers) -> Numbers:
    """The places of the conversations in the order in which they are taken, some several times, some never."""
    if all(spec.weight == 1 for spec in recipe.source):
        return np.arange(len(found))
    taken = np.repeat(np.arange(len(found)), copies)
    turn = np.arange(len(taken)) - np.repeat(np.cumsum(copies) - copies, copies)
    taken = taken[np.lexsort((taken, turn, found.source[taken], found.split[taken]))]
    return taken[np.lexsort((found.source[taken], progress(found, taken), found.split[taken]))]


def progress(found: Conversations, taken: Numbers) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How far through those of its split and source each one comes, from 0 to 1; they lie together, in order."""
    groups = np.stack([found.split[taken], found.source[taken]])
    begins = np.ones(len(taken), bool)
    begins[1:] = (groups[:, 1:] != groups[:, :-1]).any(axis=0)
    start = np.flatnonzero(begins)
    length = np.diff(start, append=len(taken))
    return np.asarray((np.arange(len(taken)) - np.repeat(start, length) + 0.5) / np.repeat(length, length))


def places(found: Conversations, purpose: str, seed: int) -> Iterator[np.ndarray[Any, np.dtype[np.float64]]]:
    """The number in [0, 1) that each conversation draws, some at a time."""
    for start in range(0, max(len(found), 1), CHUNK):
        hashes = found.hash[start : start + CHUNK].tobytes()
        yield mapping.places((hashes[at : at + 16] for at in range(0, len(hashes), 16)), purpose, seed=seed)


def rows(recipe: Recipe, taken: Conversations, split: int) -> Numbers:
    """The numbers of the output rows of one split, in order."""
    mine = taken.take(np.flatnonzero(taken.split == split))
    ends = np.cumsum(mine.length)
    within = np.arange(rows_of(mine)) - np.repeat(ends - mine.length, mine.length)
    found = np.repeat(mine.start, mine.length) + within
    return found[mapping.shuffle_order(len(found), recipe.seed)] if recipe.shuffle else found
