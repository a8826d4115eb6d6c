"""JSON forms of texts, copied from a source of JSON rather than made again: the fast path of JSON Lines to JSON Lines.

A text in JSON is escaped: `say "hi"` is `say \\"hi\\"`. To write a text of the source again, its bytes there can be
copied if they are what `orjson` writes. A reader remembers where they stand (`EscapedTexts`), a renderer how the lines
of its texts are put together from them, and a writer asks for these lines. The stages between them know
nothing of this. Texts are recognised by the memory that they lie in, so those that a stage has changed are not known,
and are escaped as ever.

Each thread remembers its last batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

Positions = npt.NDArray[np.int64]
Assemble = Callable[[bytes], memoryview | None]
"""Return the JSON forms of all texts, each preceded by the given bytes; None if they are not known."""

_LONG = np.zeros(1 << 16, np.bool_)
"""Whether `orjson` escapes a character with `\\u`, by the last two of its four digits; the others are zeros."""
_LONG[np.frombuffer(b"".join(b"%02x" % code for code in range(32) if code not in b"\b\t\n\f\r"), np.uint16)] = True


def text_offsets(texts: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return where each text begins in the memory of a column, and where the last one ends."""
    offsets = np.frombuffer(texts.buffers()[1] or bytes(4), np.int32)
    return offsets[texts.offset :][: len(texts) + 1]


class EscapedTexts(Struct, frozen=True, dict=True):
    """A column of texts without nulls; each stands between quotes in the source, in its bytes [start, stop).

    `escapes` are the positions in the source of the `u` and `/` of escapes, ascending.
    """

    texts: pa.StringArray
    source: bytes
    starts: Positions
    stops: Positions
    escapes: Positions

    @cached_property
    def _other_escapes(self) -> Positions:
        """The positions of the escapes that `orjson` writes in another way.

        It escapes quotes, backslashes and five control characters with one more byte each, the other control characters
        with `\\u` and a number in lower case, and nothing else.
        """
        octets = np.frombuffer(self.source, np.uint8)
        same = np.flatnonzero(octets[self.escapes] == ord("u"))
        for place in (1, 2):  # few have a number that begins with two zeros
            same = same[octets[self.escapes[same] + place] == ord("0")]
        numbers = np.ndarray(max(len(octets) - 1, 0), np.uint16, octets, strides=(1,))[self.escapes[same] + 3]
        return np.delete(self.escapes, same[_LONG[numbers]])

    def find(self, starts: Positions, stops: Positions) -> Positions:
        """Return the index of each text from its place in memory.

        -1 for a place that does not hold one whole text, and for a text whose bytes in the source are not what `orjson`
        writes.
        """
        offsets = text_offsets(self.texts)
        index = np.clip(np.searchsorted(offsets, starts, "right") - 1, 0, len(offsets) - 2)
        is_same = (offsets[index] == starts) & (offsets[index + 1] == stops)
        if len(self._other_escapes):
            first, last = (np.searchsorted(self._other_escapes, edges[index]) for edges in (self.starts, self.stops))
            is_same &= first == last
        return np.where(is_same, index, -1)


class _Last(threading.local):
    """The last batch of the thread: texts that were read, and rendered texts with their lines."""

    read: Sequence[EscapedTexts] = ()
    rendered: tuple[pa.StringArray, Assemble] | None = None


_last = _Last()


def remember(texts: Sequence[EscapedTexts]) -> None:
    """Remember the JSON forms of the texts of a batch, instead of those of the last."""
    _last.read, _last.rendered = texts, None


def known_texts(memory: pa.Buffer) -> EscapedTexts | None:
    """Return the texts that lie in this memory, if their JSON forms are known."""
    return next((known for known in _last.read if _same(known.texts.buffers()[2], memory)), None)


def remember_lines(texts: pa.StringArray, assemble: Assemble) -> None:
    """Remember how to assemble the JSON forms of rendered texts."""
    _last.rendered = texts, assemble


def known_lines(texts: pa.StringArray, between: bytes) -> memoryview | None:
    """Return the JSON forms of rendered texts, each preceded by `between`; None if they are not known."""
    if _last.rendered is None or texts.null_count or not len(texts):
        return None
    known, assemble = _last.rendered
    same = _same(known.buffers()[2], texts.buffers()[2]) and np.array_equal(text_offsets(known), text_offsets(texts))
    return assemble(between) if same else None


def _same(one: pa.Buffer | None, other: pa.Buffer | None) -> bool:
    """Whether two buffers are the same memory; as long as both exist, no other has its address."""
    if one is None or other is None:
        return one is other
    return bool(one.address == other.address and one.size == other.size)
