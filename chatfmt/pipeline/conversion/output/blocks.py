"""Write the two rows of each pair of answers far apart: in blocks, first all good answers, then all bad ones.

TRL's KTOTrainer estimates its KL term in batches of neighbouring rows, by giving each prompt the answer of the row
before it, and the first prompt that of the last row (`trl/trainer/kto_trainer.py`, 1.16). Where a row and the one
before it have the same prompt, that estimates nothing. With blocks of this size the rows of a pair are not in one
batch, nor at its two ends, for batches of up to PAIRS rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ....turn_columns import IntArray

PAIRS = 1024
"""Pairs per block; the last block holds up to twice as many, so that it is never a small one."""


def in_blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of batches in which good and bad answers alternate (column `label`), block by block.

    The rows come in the same order, however they are divided into batches. Two blocks are held in memory.
    """
    waiting: list[pa.RecordBatch] = []
    size, rows = 2 * PAIRS, 0
    for batch in batches:
        waiting.append(batch)
        rows += len(batch)
        while rows >= 2 * size:
            block, waiting = cut(waiting, size)
            rows -= size
            yield from good_then_bad(block)
    yield from good_then_bad(waiting)


def cut(batches: list[pa.RecordBatch], rows: int) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """Return the first rows of the batches, and the rest."""
    first: list[pa.RecordBatch] = []
    for index, batch in enumerate(batches):
        if len(batch) >= rows:
            return [*first, batch.slice(0, rows)], [batch.slice(rows), *batches[index + 1 :]]
        first.append(batch)
        rows -= len(batch)
    return first, []


def good_then_bad(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the batches whose label is true, then the others."""
    for choose in (lambda label: label, pc.invert):
        for batch in batches:
            part = batch.filter(choose(batch.column("label")))
            if len(part):
                yield part


def block_order(pair: IntArray, within: IntArray) -> IntArray:
    """Return the order of rows in blocks; row i is number `within[i]` of pair number `pair[i]`, in ascending order."""
    last = max(0, (int(pair[-1]) + 1) // PAIRS - 1) if len(pair) else 0
    return np.lexsort((within, np.minimum(pair // PAIRS, last)))
