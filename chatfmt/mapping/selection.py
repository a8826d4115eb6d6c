"""Hash conversations, and choose and shuffle rows by their hashes.

Nothing here depends on the order of rows, on batches or on workers.
"""

from __future__ import annotations

from collections import abc
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..json_columns import JSON, MEDIUM, TEXT, dumps, is_turns, loads, to_json
from ..schema import CONVERSATIONS, KEYS, MEDIA
from ..turn_columns import IntArray, lengths_of, to_lists, with_turns

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def row_hash(batch: pa.RecordBatch) -> list[bytes]:
    """The xxh3_128 digest (16 bytes) of each conversation: equal for equal conversations of any batch and source.

    Hashed are the columns of CONVERSATIONS except `row`, and those of media. Ignored are kept columns, the order of
    keys in a turn, and whether a key is null or absent.
    """
    names = [name for name in (*CONVERSATIONS, *MEDIA) if name != "row" and name in batch.schema.names]
    parts = [_tagged(name, _row_texts(batch.column(name))) for name in names]
    texts = pc.binary_join_element_wise(*parts, "") if parts else pa.repeat(pa.scalar("", TEXT), len(batch))
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    data = memoryview(texts.buffers()[2] or b"")
    return [xxhash.xxh3_128_digest(data[start:end]) for start, end in pairwise(offsets)]


def value_hash(column: pa.Array) -> list[bytes | None]:
    """The xxh3_128 digest (16 bytes) of each value of a column, None for null; equal for equal values."""
    if is_turns(column.type):
        column = to_json(column)
    texts = _value_texts(column).to_pylist()
    return [None if text is None else xxhash.xxh3_128_digest(text.encode()) for text in texts]


_NO_TEXT = xxhash.xxh3_128_digest(b"t")
"""The `value_hash` of empty text."""


def with_places(
    keys: abc.Sequence[bytes | None], places: abc.Iterable[bytes], hashes: abc.Iterable[bytes]
) -> tuple[list[bytes], int]:
    """Return a hash for each value, and how many values are null or empty text.

    A missing value gets a hash of the place and the hash of its conversation, so that no other equals it.
    """
    absent = sum(key is None or key == _NO_TEXT for key in keys)
    found = zip(keys, places, hashes, strict=True)
    return [xxhash.xxh3_128_digest(at + own) if key in (None, _NO_TEXT) else key for key, at, own in found], absent


def _row_texts(column: pa.Array) -> pa.Array:
    """One text per row that identifies its value, null for null."""
    if column.type == pa.list_(MEDIUM):
        return _media_texts(column)
    if not is_turns(column.type):
        return _value_texts(column)
    turns = column.flatten()
    fields = {field.name: turns.field(index) for index, field in enumerate(turns.type)}
    parts = [_tagged(name, _value_texts(fields[name])) for name in sorted(fields) if name != KEYS]
    texts = pc.binary_join_element_wise(*parts, ";", "") if parts else pa.repeat(pa.scalar(";", TEXT), len(turns))
    return pc.binary_join(with_turns(column, texts), "")


def _media_texts(column: pa.ListArray) -> pa.Array:
    """The digests of the bytes of stored media, or their paths where they have no bytes."""
    media = zip(*(pc.struct_field(column.flatten(), name).to_pylist() for name in ("bytes", "path")), strict=True)
    texts = [path or "" if data is None else xxhash.xxh3_128_hexdigest(data) for data, path in media]
    return pc.binary_join(to_lists(pa.array(texts, TEXT), lengths_of(column)), ",")


def _value_texts(column: pa.Array) -> pa.Array:
    """Each value as `t` and its text or `j` and its JSON, so that text has one hash in text and JSON columns."""
    if column.type == TEXT:
        return pc.binary_join_element_wise("t", column, "")
    texts = (column if column.type == JSON else to_json(column)).to_pylist()
    return pa.array([None if text in (None, "null") else _tag_json(text) for text in texts], TEXT)


def _tag_json(text: str) -> str:
    return "t" + loads(text) if text.startswith('"') else "j" + text


def _tagged(name: str, texts: pa.Array) -> pa.Array:
    """Each text after its name and length, empty for null, so that different rows never join to the same text."""
    lengths = pc.utf8_length(texts).cast(TEXT)
    return pc.fill_null(pc.binary_join_element_wise(dumps(name), lengths, ":", texts, ""), "")


def fraction_mask(hashes: abc.Sequence[bytes], fraction: float, *, seed: int = 0) -> pa.BooleanArray:
    """Mark a random part of the conversations; a larger fraction contains every smaller one."""
    return pa.array([_uniform_number(key, seed, b"fraction") < fraction for key in hashes], pa.bool_())


def uniform_numbers(hashes: abc.Iterable[bytes], purpose: str, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """A random number in [0, 1) for each conversation; numbers for different purposes are independent."""
    return np.fromiter((_uniform_number(key, seed, purpose.encode()) for key in hashes), np.float64)


def _uniform_number(key: bytes, seed: int, purpose: bytes) -> float:
    return (xxhash.xxh3_64_intdigest(key + purpose, seed & (2**64 - 1)) >> 11) / 2**53


def shuffle_keys(ids: npt.ArrayLike, seed: int) -> npt.NDArray[np.uint64]:
    """A random number for each row id, different for different ids: splitmix64 of id and seed (Steele et al. 2014)."""
    start = (int(_MIX[0]) + seed * int(_MIX[1])) & (2**64 - 1)
    with np.errstate(over="ignore"):
        value = np.asarray(ids).astype(np.uint64) + np.uint64(start)
        value = (value ^ (value >> np.uint64(30))) * _MIX[1]
        value = (value ^ (value >> np.uint64(27))) * _MIX[2]
    return value ^ (value >> np.uint64(31))


def shuffle_order(count: int, seed: int) -> IntArray:
    """Return a permutation of `range(count)` that depends on the seed only."""
    return np.argsort(shuffle_keys(np.arange(count), seed), kind="stable")
