"""Pack the token columns of several conversations into rows of up to N tokens (`--pack N`).

`bfd` is the strategy of that name in TRL (`trl/data_utils.py`, 1.16), best fit decreasing: each conversation goes, the
longest first, where it leaves the least room, and none is cut. Packed rows, and the conversations inside each, are in
the order of the source. A row has two more columns: `seq_lengths`, the lengths of its conversations, which TRL's
collator reads with `padding_free`, and `position_ids`, which start again with each conversation, as axolotl reads them.

`wrapped`, also TRL's name, joins all conversations and cuts them every N tokens, and does not say where one ends.

What is in a row depends on the conversations and their order alone, not on how they come in batches.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from msgspec import Struct

from ....errors import UsageError, raise_first
from ....tokens import SCHEMA, over_length
from ....turn_columns import IntArray, lengths_of, offsets_of, ranges, to_lists
from ....writers import TAG
from ..row_counts import RowCounts
from .schema import Types

Strategy = Literal["bfd", "wrapped"]
WINDOW = 1 << 21
"""Tokens that are packed together, at least; 100 rows if those are more. They are held in memory."""
ADDED_TYPES: Types = {"position_ids": pa.list_(pa.int32()), "seq_lengths": pa.list_(pa.int32())}
"""The columns that `bfd` adds."""


class Packing(Struct, frozen=True):
    """The tokens of a packed row, and how they are chosen."""

    tokens: int
    strategy: Strategy = "bfd"

    def check(self, batch: pa.RecordBatch) -> None:
        """Raise CheckError for conversations that are too long for a row, unless they may be cut.

        Raises UsageError for a column with a value for each conversation.
        """
        for name in batch.schema.names:
            if name not in (*SCHEMA.names, TAG):
                text = f"the column `{name}` has a value for each conversation, and `--pack` joins conversations"
                raise UsageError(text, hint="leave it out of --keep")
        if self.strategy == "wrapped":
            return
        errors = over_length(batch.column("input_ids").value_lengths(), self.tokens)
        for error in errors:
            flags = f"`--max-tokens {self.tokens} --over-length drop` drops such rows, `split-turns` splits them"
            error.hint = f"{flags}, and `--pack-strategy wrapped` cuts all rows"
        raise_first(errors)

    @property
    def added_types(self) -> Types:
        """The types of the columns that packing adds."""
        return ADDED_TYPES if self.strategy == "bfd" else {}


def pack(batches: Iterable[pa.RecordBatch], packing: Packing, counts: RowCounts) -> Iterator[pa.RecordBatch]:
    """Yield the packed rows of batches that `Packing.check` passes, and correct `counts`, which had them as written."""
    taken = made = 0

    def taking() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for batch in batches:
            taken += len(batch)
            yield batch

    packer = _best_fit if packing.strategy == "bfd" else _wrapped
    for rows in packer(taking(), packing.tokens):
        made += len(rows)
        counts.packed["tokens"] += len(rows.column("input_ids").flatten())
        counts.packed["room"] += len(rows) * packing.tokens
        yield rows
    counts.packed["conversations"] += taken
    counts.written += made - taken
    counts.step(taken, made)


def _best_fit(batches: Iterable[pa.RecordBatch], tokens: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows packed by `bfd`, a window of conversations at a time."""
    for window in _windows(batches, max(WINDOW, 100 * tokens)):
        lengths = lengths_of(window.column("input_ids"))
        bins = best_fit_decreasing(lengths, tokens)
        if bins:
            yield _joined(window, lengths, bins)


def _windows(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Yield the conversations, as many at a time as reach `size` tokens."""
    waiting: list[pa.RecordBatch] = []
    room = size
    for batch in batches:
        while len(batch):
            ends = np.cumsum(lengths_of(batch.column("input_ids")))
            stop = min(int(np.searchsorted(ends, room)) + 1, len(batch))
            waiting.append(batch.slice(0, stop))
            room -= int(ends[stop - 1])
            batch = batch.slice(stop)
            if room <= 0:
                yield pa.concat_batches(waiting)
                waiting, room = [], size
    if waiting:
        yield pa.concat_batches(waiting)


def best_fit_decreasing(lengths: Sequence[int] | IntArray, capacity: int) -> list[list[int]]:
    """Return the indices of lengths up to `capacity` by the bin that each goes into; those of length 0 into none.

    Indices ascend in each bin, and the bins by their first index.
    """
    bins: list[list[int]] = []
    spaces: list[int] = []
    bins_by_space: defaultdict[int, deque[int]] = defaultdict(deque)
    for index in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = int(lengths[index])
        if not length:
            break
        place = bisect_left(spaces, length)
        if place == len(spaces):
            number, space = len(bins), capacity
            bins.append([])
        else:
            space = spaces[place]
            number = bins_by_space[space].popleft()
            if not bins_by_space[space]:
                del spaces[place]
        bins[number].append(index)
        if left := space - length:
            if not bins_by_space[left]:
                insort(spaces, left)
            bins_by_space[left].append(number)
    return sorted(map(sorted, bins))


def _joined(window: pa.RecordBatch, lengths: IntArray, bins: Sequence[Sequence[int]]) -> pa.RecordBatch:
    """Return a row of each bin: its conversations joined, with their positions and lengths."""
    order = np.concatenate([np.array(found, np.int64) for found in bins])
    taken, lengths = window.take(pa.array(order)), lengths[order]
    per_row = np.array(list(map(len, bins)), np.int64)
    tokens = np.add.reduceat(lengths, offsets_of(per_row)[:-1])
    columns = {name: to_lists(taken.column(name).flatten(), tokens) for name in window.schema.names}
    positions = ranges(np.zeros(len(lengths), np.int64), lengths)
    columns["position_ids"] = to_lists(pa.array(positions, pa.int32()), tokens)
    columns["seq_lengths"] = to_lists(pa.array(lengths, pa.int32()), per_row)
    return pa.RecordBatch.from_pydict(columns)


def _wrapped(batches: Iterable[pa.RecordBatch], tokens: int) -> Iterator[pa.RecordBatch]:
    """Yield rows of `tokens` tokens each, the last one shorter, in which all conversations follow one another."""
    rest: dict[str, pa.Array] = {}
    for batch in batches:
        flat = {name: batch.column(name).flatten() for name in batch.schema.names}
        rest = {name: pa.concat_arrays([rest[name], values]) if rest else values for name, values in flat.items()}
        count = len(rest["input_ids"]) // tokens
        if count:
            lengths = np.full(count, tokens)
            yield pa.RecordBatch.from_pydict(
                {name: to_lists(values.slice(0, count * tokens), lengths) for name, values in rest.items()}
            )
            rest = {name: values.slice(count * tokens) for name, values in rest.items()}
    if rest and len(rest["input_ids"]):
        yield pa.RecordBatch.from_pydict(
            {name: to_lists(values, np.array([len(values)])) for name, values in rest.items()}
        )
