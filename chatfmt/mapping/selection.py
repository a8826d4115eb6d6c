"""Which rows, by what they say: hashes of conversations, and splits, fractions and orders that hang on them alone.

Nothing here depends on the order of the rows, on how they were cut into batches, or on who does the work.
"""

from __future__ import annotations

import heapq
from collections import abc
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..json_columns import JSON, TEXT, dumps, is_turns, loads, to_json
from ..schema import CONVERSATIONS, KEYS
from ..turn_columns import with_turns

Hashes = abc.Sequence[bytes]
Numbers = np.ndarray[Any, np.dtype[np.uint64]]
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def row_hash(batch: pa.RecordBatch) -> list[bytes]:
    """The xxh3_128 (16 bytes) of each row's conversation: equal for equal conversations, in any batch, of any source.

    Counted in: every column that CONVERSATIONS names but `row`, with what each turn says. Not counted in: kept
    columns, the order of a turn's keys, and whether a key is null or absent.
    """
    names = [name for name in CONVERSATIONS if name != "row" and name in batch.schema.names]
    parts = [_tagged(name, _row_texts(batch.column(name))) for name in names]
    texts = pc.binary_join_element_wise(*parts, "") if parts else pa.repeat(pa.scalar("", TEXT), len(batch))
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    data = memoryview(texts.buffers()[2] or b"")
    return [xxhash.xxh3_128_digest(data[start:end]) for start, end in pairwise(offsets)]


def _row_texts(column: pa.Array) -> pa.Array:
    """One text a row that says what its value is, null where there is none: turns as the texts of their fields."""
    if not is_turns(column.type):
        return _value_texts(column)
    turns = column.flatten()
    fields = {field.name: turns.field(place) for place, field in enumerate(turns.type)}
    parts = [_tagged(name, _value_texts(fields[name])) for name in sorted(fields) if name != KEYS]
    said = pc.binary_join_element_wise(*parts, ";", "") if parts else pa.repeat(pa.scalar(";", TEXT), len(turns))
    return pc.binary_join(with_turns(column, said), "")


def _value_texts(column: pa.Array) -> pa.Array:
    """Each value as `t` and its text or `j` and its JSON, so that text hashes the same in a text and a JSON column."""
    if column.type == TEXT:
        return pc.binary_join_element_wise("t", column, "")
    texts = (column if column.type == JSON else to_json(column)).to_pylist()
    return pa.array([None if text in (None, "null") else _kind(text) for text in texts], TEXT)


def _kind(text: str) -> str:
    return "t" + loads(text) if text.startswith('"') else "j" + text


def _tagged(name: str, texts: pa.Array) -> pa.Array:
    """Each text after its name and length, nothing where it is null: what is joined can be told apart again."""
    lengths = pc.utf8_length(texts).cast(TEXT)
    return pc.fill_null(pc.binary_join_element_wise(dumps(name), lengths, ":", texts, ""), "")


def split_of(key: bytes, fractions: abc.Mapping[str, float], *, seed: int = 0) -> str:
    """The name of the split that a conversation belongs to; equal conversations always share a split.

    `fractions` are parts of 1 in order; what they leave over goes to the last.
    """
    place, end = _place(key, seed, b"split"), 0.0
    for name, fraction in fractions.items():
        end += fraction
        if place < end:
            return name
    return list(fractions)[-1]


def fraction_mask(hashes: Hashes, fraction: float, *, seed: int = 0) -> pa.BooleanArray:
    """Which rows are in this part of all conversations; a larger fraction holds all of a smaller one."""
    return pa.array([_place(key, seed, b"fraction") < fraction for key in hashes], pa.bool_())


def lowest(hashes: abc.Iterable[bytes], count: int, *, seed: int = 0) -> frozenset[bytes]:
    """The hashes of `count` conversations taken at random, or of all there are: a sample of exact size."""
    return frozenset(heapq.nsmallest(count, set(hashes), key=lambda key: (_place(key, seed, b"sample"), key)))


def places(hashes: abc.Iterable[bytes], purpose: str, *, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A number in [0, 1) for each conversation: `split` draws what `split_of` goes by, `sample` what `lowest` does."""
    return np.fromiter((_place(key, seed, purpose.encode()) for key in hashes), np.float64)


def _place(key: bytes, seed: int, purpose: bytes) -> float:
    """A number in [0, 1) for a conversation; another purpose draws another one, so that choices are independent."""
    return (xxhash.xxh3_64_intdigest(key + purpose, seed & (2**64 - 1)) >> 11) / 2**53


def shuffle_keys(ids: abc.Sequence[int] | np.ndarray[Any, Any], seed: int) -> Numbers:
    """A random number for each row id (splitmix64 of id and seed, Steele et al. 2014): sorted by it, rows are shuffled.

    An id has the same number in any batch; different ids never have the same one.
    """
    start = (int(_MIX[0]) + seed * int(_MIX[1])) & (2**64 - 1)
    with np.errstate(over="ignore"):
        value = np.asarray(ids).astype(np.uint64) + np.uint64(start)
        value = (value ^ (value >> np.uint64(30))) * _MIX[1]
        value = (value ^ (value >> np.uint64(27))) * _MIX[2]
    return value ^ (value >> np.uint64(31))


def shuffle_order(count: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A permutation of `range(count)`, fixed by the seed alone."""
    return np.argsort(shuffle_keys(np.arange(count), seed), kind="stable")
