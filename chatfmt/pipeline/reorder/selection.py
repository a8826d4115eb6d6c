"""Choose and order output rows by content hash, independent of the number of workers.

Conversations are selected, not rows: the rows that come from one conversation stay or go together. In this order:

* `dedup` keeps the first of equal conversations, in the order of the splits, then of the sources; `dedup_by` keeps the
  first of those with the same value in a column of the source;
* a weight repeats each conversation of a source (in each split) as often as its integer part says, and a fraction of
  them once more, those whose hashes draw the lowest numbers; sources are then interleaved in proportion, each in order;
* `test_fraction` moves conversations to the split `test` by their hashes alone, so equal ones are never in two splits;
  with `split_by` by the hash of a column, so those with the same value are never in two splits;
* `shuffle` orders the rows of each split by the seed and their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import asdict, replace

from ... import mapping
from ...errors import UsageError
from ...recipe import Recipe
from ...turn_columns import IntArray
from ...writers import TAG_TYPE, tag_bytes
from ..conversion.output.blocks import block_order
from ..conversion.row_counts import RowCounts

TEST = "test"
CHUNK = 1 << 16
"""Hashes held as Python objects at a time."""


class Conversations(Struct, frozen=True, eq=False):
    """Columns with one value per conversation: the range of its output rows, and what it is selected by."""

    start: IntArray
    """The number of its first output row among those of all part files."""
    length: IntArray
    """The number of its output rows."""
    hash: np.ndarray[Any, np.dtype[np.uint64]]
    """Shape n × 2: the 128 bits of each hash; equal ones are duplicates."""
    group: np.ndarray[Any, np.dtype[np.uint64]]
    """Shape n × 2: the hash by which the test split is drawn; equal ones are in the same split."""
    split: IntArray
    """The index of its split, in the order of the output."""
    source: IntArray
    """The index of its source in the recipe."""

    def __len__(self) -> int:
        return len(self.start)

    def take(self, chosen: np.ndarray[Any, Any]) -> Conversations:
        return Conversations(**{name: column[chosen] for name, column in asdict(self).items()})


class Selection(Struct, frozen=True, eq=False):
    """The numbers of the rows of each split, in order; `counts` has the rows that were dropped and added."""

    rows: Mapping[str, IntArray]
    counts: RowCounts


def to_conversations(tags: Sequence[pa.Array], first_row: int, split: int, source: int) -> Conversations:
    """Return the conversations of a part file from the tags of its batches; its rows count from `first_row`."""
    table = np.concatenate([tag_bytes(tag) for tag in tags] or [np.empty((0, TAG_TYPE.byte_width), np.uint8)])
    indices = np.ascontiguousarray(table[:, 32:36]).view(np.uint32).ravel()
    begins = np.ones(len(table), bool)
    begins[1:] = indices[1:] != indices[:-1]
    ends = np.cumsum([0, *(len(tag) for tag in tags)])
    begins[ends[ends < len(table)]] = True
    start = np.flatnonzero(begins).astype(np.int64)
    length = np.diff(start, append=len(table)).astype(np.int64)
    hashes = np.ascontiguousarray(table[start, :32]).view(np.uint64).reshape(-1, 4)
    same = np.ones(len(start), np.int64)
    return Conversations(start + first_row, length, hashes[:, :2], hashes[:, 2:], same * split, same * source)


def concat_conversations(parts: Sequence[Conversations]) -> Conversations:
    """Return the conversations of all part files, in order."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in Conversations.__struct_fields__
    }
    return Conversations(**columns)


def select(recipe: Recipe, splits: Sequence[str], found: Conversations, *, in_blocks: bool = False) -> Selection:
    """Select and order the rows of conversations, which come in the order of the output.

    `splits` are the names of the splits that `Conversations.split` indexes. With `in_blocks` the rows of a conversation
    are put far apart, as `output.blocks` does.
    """
    counts = RowCounts()
    kept = found.take(first_occurrences(found)) if recipe.dedup or recipe.dedup_by is not None else found
    counts.duplicates = count_rows(found) - count_rows(kept)
    copies = count_copies(recipe, kept)
    counts.filtered = int(kept.length[copies == 0].sum())
    counts.added = int((kept.length * np.maximum(copies - 1, 0)).sum())
    weighted = any(spec.weight != 1 for spec in recipe.source)
    selected = kept.take(order_by_weight(kept, copies)) if weighted else kept
    names = list(splits)
    if recipe.test_fraction:
        names += [] if TEST in names else [TEST]
        in_test = np.concatenate(
            [numbers < recipe.test_fraction for numbers in draw_numbers(selected.group, "split", recipe.seed)]
        )
        selected = replace(selected, split=np.where(in_test, names.index(TEST), selected.split))
    return Selection(
        {name: output_rows(recipe, selected, number, in_blocks=in_blocks) for number, name in enumerate(names)}, counts
    )


def count_rows(found: Conversations) -> int:
    return int(found.length.sum())


def first_occurrences(found: Conversations) -> IntArray:
    """Return the indices of the conversations that are not equal to an earlier one, in order."""
    order = np.lexsort((found.hash[:, 0], found.hash[:, 1]))  # stable: equal ones stay in order
    hashes = found.hash[order]
    new = np.ones(len(order), bool)
    new[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
    return np.sort(order[new])


MOST_COPIES = 500_000_000
"""Each copy takes some tens of bytes of memory."""


def count_copies(recipe: Recipe, found: Conversations) -> IntArray:
    """Return how often each conversation is written; raises UsageError for more than MOST_COPIES of a source."""
    copies = np.ones(len(found), np.int64)
    for number, spec in enumerate(recipe.read_apart):
        if spec.weight == 1:
            continue
        for split in np.unique(found.split):
            mine = np.flatnonzero((found.source == number) & (found.split == split))
            if spec.weight * len(mine) > MOST_COPIES:
                message = f"the weight {spec.weight:g} makes more than {MOST_COPIES:,} rows of `{spec.source}`"
                raise UsageError(message, hint="a weight says how often each row is written: take a smaller one")
            times, fraction = divmod(spec.weight, 1)
            drawn = np.concatenate([*draw_numbers(found.hash[mine], "sample", recipe.seed), np.empty(0)])
            again = np.argsort(drawn, kind="stable")[: round(fraction * len(mine))]
            copies[mine] = int(times)
            copies[mine[again]] += 1
    return copies


def order_by_weight(found: Conversations, copies: IntArray) -> IntArray:
    """Return the indices of the conversations in output order, each as often as `copies` says."""
    chosen = np.repeat(np.arange(len(found)), copies)
    repetition = np.arange(len(chosen)) - np.repeat(np.cumsum(copies) - copies, copies)
    chosen = chosen[np.lexsort((chosen, repetition, found.source[chosen], found.split[chosen]))]
    return chosen[np.lexsort((found.source[chosen], relative_positions(found, chosen), found.split[chosen]))]


def relative_positions(found: Conversations, chosen: IntArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the position, from 0 to 1, of each conversation in its split and source, whose members are adjacent."""
    groups = np.stack([found.split[chosen], found.source[chosen]])
    begins = np.ones(len(chosen), bool)
    begins[1:] = (groups[:, 1:] != groups[:, :-1]).any(axis=0)
    start = np.flatnonzero(begins)
    length = np.diff(start, append=len(chosen))
    return np.asarray((np.arange(len(chosen)) - np.repeat(start, length) + 0.5) / np.repeat(length, length))


def draw_numbers(
    found: np.ndarray[Any, np.dtype[np.uint64]], purpose: str, seed: int
) -> Iterator[np.ndarray[Any, np.dtype[np.float64]]]:
    """Yield the number in [0, 1) that each conversation draws by its hash, some conversations at a time."""
    for start in range(0, max(len(found), 1), CHUNK):
        hashes = found[start : start + CHUNK].tobytes()
        yield mapping.uniform_numbers((hashes[at : at + 16] for at in range(0, len(hashes), 16)), purpose, seed=seed)


def output_rows(recipe: Recipe, chosen: Conversations, split: int, *, in_blocks: bool) -> IntArray:
    """Return the numbers of the output rows of one split, in order."""
    mine = chosen.split == split
    start, length = chosen.start[mine], chosen.length[mine]
    within: IntArray = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    found = np.repeat(start, length) + within
    if in_blocks:
        found = found[block_order(np.repeat(np.arange(len(start)), length), within)]
    return found[mapping.shuffle_order(len(found), recipe.seed)] if recipe.shuffle else found
