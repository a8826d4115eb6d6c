"""Find the strings in JSON Lines that `pyarrow.json` has parsed: which are keys, and where texts begin and end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ...escaped_texts import TILE, EscapedTexts
from ...json_columns import TEXT
from .structure import Octets, Positions

_BACKSLASH = ord("\\")
_LONGEST_RUN = 1000


def strings_in_order(block: bytes, batch: pa.RecordBatch) -> list[EscapedTexts] | None:
    """Return where the texts of a batch stand in its lines; None if an object has its keys in another order.

    `block` is valid JSON, and every object in it has each key of the schema once. So all strings are known by their
    order: if the first one is named as the first key, the next is its value or the key of a turn, and so on.
    """
    octets = np.frombuffer(block, np.uint8)
    quotes = _unescaped_quotes(octets)
    places, count = _keys(batch)
    if quotes is None or len(quotes) != count:
        return None
    found = []
    for name, keys, texts in places:
        if not _are_named(octets, quotes[keys], quotes[keys + 1], name):
            return None
        if texts is not None:
            found.append(EscapedTexts(texts, block, quotes[keys + 2] + 1, quotes[keys + 3]))
    return found


def find_all(octets: Octets, byte: bytes) -> Positions:
    """The positions of a byte."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(octets), TILE):
        found.append(np.flatnonzero(octets[start : start + TILE] == byte[0]) + start)
    return np.concatenate(found)


def _unescaped_quotes(octets: Octets) -> Positions | None:
    """The quotes that begin or end a string: those after an even number of backslashes; None after very many."""
    quotes = find_all(octets, b'"')
    is_escaped = octets[quotes - 1] == _BACKSLASH
    behind = np.flatnonzero(is_escaped)
    for distance in range(2, _LONGEST_RUN):
        behind = behind[octets[quotes[behind] - distance] == _BACKSLASH]
        if not len(behind):
            unescaped: Positions = quotes[~is_escaped]
            return unescaped
        is_escaped[behind] ^= True
    return None


Keys = tuple[str, Positions, pa.StringArray | None]
"""A name, the indices of the opening quotes of its keys among all quotes, and the texts that follow these keys."""


def _keys(batch: pa.RecordBatch) -> tuple[Iterator[Keys], int]:
    """The keys of a batch of texts and turns with their objects in the order of the schema, and the number of quotes.

    A text and its key have four quotes, the key of a list of turns has two.
    """
    counts = np.full((len(batch), batch.num_columns), 4, np.int64)
    for place, column in enumerate(batch.columns):
        if column.type != TEXT:
            counts[:, place] = 2 + 4 * column.type.value_type.num_fields * column.value_lengths().to_numpy()
    starts = (np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
    return _keys_at(batch, starts), int(counts.sum())


def _keys_at(batch: pa.RecordBatch, starts: Positions) -> Iterator[Keys]:
    for place, (field, column) in enumerate(zip(batch.schema, batch.columns, strict=True)):
        if field.type == TEXT:
            yield field.name, starts[:, place], column
            continue
        yield field.name, starts[:, place], None
        lengths, width = column.value_lengths().to_numpy().astype(np.int64), 4 * field.type.value_type.num_fields
        before = np.cumsum(lengths) - lengths
        turns = np.repeat(starts[:, place] + 2 - width * before, lengths) + width * np.arange(lengths.sum())
        for number, (inner, texts) in enumerate(zip(field.type.value_type, column.flatten().flatten(), strict=True)):
            yield inner.name, turns + 4 * number, texts


def _are_named(octets: Octets, opening: Positions, closing: Positions, name: str) -> bool:
    """Whether all strings between these quotes are this name."""
    word = f'"{name}"'.encode()
    if not len(opening) or not (closing - opening == len(word) - 1).all():
        return not len(opening)
    windows = np.ndarray(len(octets) - len(word) + 1, f"V{len(word)}", octets, strides=(1,))
    found = windows[opening].view(np.uint8).reshape(-1, len(word))
    return bool((found == np.frombuffer(word, np.uint8)).all())
