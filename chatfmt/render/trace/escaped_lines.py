"""Rendered texts as JSON, of which most is copied from the source: the fast path from JSON Lines to JSON Lines.

The JSON form of a text that is put together of pieces is the JSON forms of the pieces, put together, since each
character is escaped by itself. Literals of the template are escaped once, whole texts of the source are copied with
their escapes, and only what a template makes of a text otherwise, such as without the white space around it, is escaped
here. See `escaped_texts`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa

from ...escaped_texts import known_texts
from .kernels import Int64Array, TextBuffer, TextSlices, to_slices, views_of
from .tables import Pieces, put_together


def escaped_lines(pieces: Pieces, literals: Sequence[str], between: bytes) -> memoryview | None:
    """Return the JSON forms of the texts of all rows without quotes, each preceded by `between`.

    None if more texts than rows would have to be escaped: then it is faster to escape whole rows.
    """
    groups: list[tuple[Int64Array, TextSlices]] = []
    escaped = 0
    places = np.arange(len(pieces.literals)) + np.repeat(np.arange(1, len(pieces.bounds)), np.diff(pieces.bounds))
    for indices, texts in pieces.groups:
        whole, copied = _copied(texts)
        others = np.flatnonzero(~whole)
        escaped += len(others)
        if escaped > len(pieces.bounds):
            return None
        groups += [(places[indices[whole]], copied), (places[indices[others]], _escape(texts.pick(others).strings()))]
    pool = to_slices([between.decode(), *map(_escaped, literals)])
    numbers = np.zeros(len(places) + len(pieces.bounds) - 1, np.int64)
    numbers[places] = np.maximum(pieces.literals + 1, 0)
    return memoryview(put_together(pool.source, views_of(pool, 0)[numbers], groups).buffers()[2])


def is_known(texts: TextBuffer) -> bool:
    """Return whether texts come from a source of JSON."""
    return known_texts(texts.buffer) is not None


def _copied(texts: TextSlices) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], TextSlices]:
    """Return which of the texts are whole texts of a source that escapes as `orjson` does, and their JSON forms."""
    known = known_texts(texts.source.buffer)
    if known is None:
        return np.zeros(len(texts), np.bool_), to_slices([])
    index = known.find(texts.start, texts.stop)
    source = TextBuffer(pa.py_buffer(known.source), np.frombuffer(known.source, np.uint8), 0, len(known.source))
    return index >= 0, TextSlices(source, known.starts, known.stops).pick(index[index >= 0])


def _escape(texts: Sequence[str]) -> TextSlices:
    return to_slices([_escaped(text) for text in texts])


def _escaped(text: str) -> str:
    return orjson.dumps(text)[1:-1].decode()
