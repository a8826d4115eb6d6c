"""Rows are chosen by their content only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from chatfmt import json_columns
from chatfmt.mapping import fraction_mask, row_hash, shuffle_order, uniform_numbers
from chatfmt.mapping.selection import shuffle_keys
from tests.transforms.conversations import ROWS, to_batch


def canonical(row: dict[str, Any]) -> str:
    """What a row says: keys of turns in one order, nulls left out."""
    said = {
        name: [dict(sorted((k, v) for k, v in turn.items() if v is not None)) for turn in turns]
        for name, turns in sorted(row.items())
        if turns is not None
    }
    return json_columns.dumps(said)


@given(rows=ROWS, more=ROWS)
def test_equal_hashes_are_equal_conversations(rows: list[Any], more: list[Any]) -> None:
    everything = [*rows, *more]
    hashes = row_hash(to_batch(everything))
    for one, first in zip(everything, hashes, strict=True):
        for other, second in zip(everything, hashes, strict=True):
            assert (canonical(one) == canonical(other)) == (first == second)


@given(rows=ROWS)
def test_a_hash_does_not_hang_on_the_batch(rows: list[Any]) -> None:
    whole = row_hash(to_batch(rows))
    assert [each for row in rows for each in row_hash(to_batch([row]))] == whole
    assert row_hash(to_batch(rows).slice(1)) == whole[1:]
    assert row_hash(to_batch(list(reversed(rows)), first=90)) == whole[::-1]


def test_a_hash_is_the_same_for_parquet_and_json_and_without_what_is_kept() -> None:
    turns = [{"content": "é", "role": "user"}, {"content": None, "role": "assistant"}]
    native = pa.RecordBatch.from_arrays([pa.array([3]), pa.array([turns])], names=["row", "messages"])
    swapped = [{"role": "user", "content": "é"}, {"role": "assistant"}]
    assert row_hash(native) == row_hash(to_batch([{"messages": swapped, "id": "kept"}]))
    assert row_hash(native)[0].hex() == "fadd136f4673a8fb92e444b3258a32e3"
    assert row_hash(native) != row_hash(to_batch([{"messages": swapped, "tools": []}]))


def test_texts_that_run_together_are_told_apart() -> None:
    said = [["a", "b"], ["ab", ""], ["", "ab"], ["ab"], ['t1:"'], ["a\x1fb"]]
    hashes = row_hash(to_batch([{"messages": [{"role": "user", "content": text} for text in texts]} for texts in said]))
    assert len(set(hashes)) == len(said)


HASHES = [number.to_bytes(16, "big") for number in range(4000)]


def test_a_fraction_is_about_right_and_independent_of_other_purposes() -> None:
    tenth, third = (np.asarray(fraction_mask(HASHES, part)) for part in (0.1, 0.3))
    assert (300 < tenth.sum() < 500) and (1050 < third.sum() < 1350)
    assert not (tenth & ~third).any()
    test = uniform_numbers(HASHES, "split") < 0.1
    assert 10 < (tenth & test).sum() < 90
    assert fraction_mask(HASHES, 1.0).true_count == 4000


def test_numbers_are_uniform_and_do_not_depend_on_order() -> None:
    numbers = uniform_numbers(HASHES, "split", seed=1)
    assert ((numbers >= 0) & (numbers < 1)).all() and np.abs(np.histogram(numbers, 10)[0] - 400).max() < 100
    assert uniform_numbers(reversed(HASHES), "split", seed=1).tolist() == numbers[::-1].tolist()
    assert uniform_numbers(HASHES, "split", seed=2).tolist() != numbers.tolist()


@pytest.mark.parametrize("seed", [0, 1, 2**64 + 5, -1])
def test_an_order_is_a_permutation_fixed_by_its_seed(seed: int) -> None:
    order = shuffle_order(5000, seed)
    assert sorted(order.tolist()) == list(range(5000))
    assert order.tolist() == shuffle_order(5000, seed).tolist() != list(range(5000))
    assert np.abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
    keys = shuffle_keys(range(5000), seed)
    assert len(set(keys.tolist())) == 5000 and keys[7:9].tolist() == shuffle_keys([7, 8], seed).tolist()


def test_other_seeds_give_other_orders() -> None:
    assert len({tuple(shuffle_order(50, seed)) for seed in range(100)}) == 100
