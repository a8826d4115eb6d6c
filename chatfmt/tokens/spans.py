"""Find the tokens in the spans of a text from the bytes of the tokens, without offsets from the tokenizer.

Without offsets `tokenizers` encodes faster and in less memory. The tokens of most vocabularies are bytes of the text:
where the bytes of a row's tokens, joined, are the bytes of its text, the place of each token is known exactly. Other
rows (a normalizer changed the text, a token absorbed blanks around it) need the offsets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ..turn_columns import BoolArray, IntArray, lengths_of

Int32Array = np.ndarray[Any, np.dtype[np.int32]]
MaskArray = np.ndarray[Any, np.dtype[np.int8]]


class Spans(Struct, frozen=True):
    """The spans of several texts as columns: the text that each is in, and [start, stop) in that text."""

    row: IntArray
    start: IntArray
    stop: IntArray

    @classmethod
    def of(cls, column: pa.ListArray) -> Spans:
        """The spans of a column of lists of `[start, stop)`."""
        pairs = np.asarray(column.flatten().flatten(), np.int64).reshape(-1, 2)
        return cls(np.repeat(np.arange(len(column)), lengths_of(column)), pairs[:, 0], pairs[:, 1])

    def filter(self, kept: BoolArray) -> Spans:
        return Spans(self.row[kept], self.start[kept], self.stop[kept])


class TokenBytes:
    """The bytes of each token of a vocabulary, by id."""

    def __init__(self, table: pa.Array) -> None:
        self._table = table

    @classmethod
    def of(cls, decoder: dict[str, Any] | None, vocabulary: dict[str, int], added: dict[int, str]) -> TokenBytes | None:
        """The bytes of the tokens that `Encoder.vocabulary` returns; None if they are not bytes of text."""
        spelling = _spelling(decoder)
        if spelling is None:
            return None
        spelled = {id: spelling(token) for token, id in vocabulary.items()}
        spelled |= {id: token.encode() for id, token in added.items()}
        return cls(pa.array([spelled.get(id) for id in range(max(spelled, default=-1) + 1)], pa.large_binary()))

    def places(self, text: bytes, row_bytes: IntArray, ids: Int32Array, row_tokens: IntArray) -> TokenPlaces:
        """The positions of the tokens of several texts, which are joined in `text` and start at `row_bytes`.

        `ids` are the tokens of all of them, those of each text from `row_tokens` on.
        """
        taken = self._table.take(pa.array(ids))
        joined = (taken.buffers()[2] or pa.py_buffer(b"")).to_pybytes()
        ends = np.cumsum(pc.fill_null(pc.binary_length(taken), 0).to_numpy(zero_copy_only=False))
        begins = np.append(0, ends)[row_tokens]
        exact = np.array(
            [
                joined[begins[row] : begins[row + 1]] == text[row_bytes[row] : row_bytes[row + 1]]
                for row in range(len(row_bytes) - 1)
            ],
            np.bool_,
        )
        counts = np.diff(row_tokens)
        ends = np.minimum(ends + np.repeat(row_bytes[:-1] - begins[:-1], counts), np.repeat(row_bytes[1:], counts))
        return TokenPlaces(text, row_bytes, row_tokens, ends, exact)


class TokenPlaces(Struct, frozen=True):
    """The tokens of several texts joined into one, and where each ends in it."""

    text: bytes
    row_bytes: IntArray
    row_tokens: IntArray
    ends: IntArray
    """The byte after each token, ascending; of no meaning for the tokens of texts that are not `exact`."""
    exact: BoolArray
    """For each text, whether its tokens are its bytes."""

    def mask(self, spans: Spans) -> MaskArray:
        """Return 1 for each token with text inside a span of an exact text, else 0; spans are in code points."""
        spans = spans.filter(self.exact[spans.row] & (spans.start < spans.stop))
        start, stop = self._bytes_at(spans.row, spans.start), self._bytes_at(spans.row, spans.stop)
        begins = np.append(0, self.ends[:-1])
        first, after = np.searchsorted(self.ends, start, side="right"), np.searchsorted(begins, stop, side="left")
        return self._marked(first, after)

    def mask_as_transformers(self, spans: Spans) -> MaskArray:
        """Return the mask of `worker.mask_as_transformers` for the exact texts."""
        begun = np.append(self._byte_starts(), len(self.text))
        first_char = np.searchsorted(begun, self.row_bytes)
        inside = spans.start < np.diff(first_char)[spans.row]  # those that are not are the last ones of their text
        spans = spans.filter(self.exact[spans.row] & inside)
        start, last = (begun[first_char[spans.row] + place] for place in (spans.start, np.maximum(spans.stop - 1, 0)))
        first, after = (np.searchsorted(self.ends, place, side="right") for place in (start, last))
        to_end = (spans.stop < 1) | (after == self.row_tokens[spans.row])
        after = np.where(to_end, self.row_tokens[spans.row + 1], after + 1)
        return self._marked(first, np.maximum(first, after))

    def _byte_starts(self) -> IntArray:
        """The byte at which each character of the text starts."""
        return np.flatnonzero((np.frombuffer(self.text, np.uint8) & 0xC0) != 0x80)

    def _bytes_at(self, rows: IntArray, characters: IntArray) -> IntArray:
        """The byte at which a character of a text starts, in the joined text."""
        if self.text.isascii():
            return self.row_bytes[rows] + characters
        begun = np.append(self._byte_starts(), len(self.text))
        return np.asarray(begun[np.searchsorted(begun, self.row_bytes[rows]) + characters], np.int64)

    def _marked(self, first: IntArray, after: IntArray) -> MaskArray:
        steps = np.zeros(len(self.ends) + 1, np.int32)
        np.add.at(steps, first, 1)
        np.add.at(steps, after, -1)
        return (np.cumsum(steps[:-1]) > 0).astype(np.int8)


def _spelling(decoder: dict[str, Any] | None) -> Callable[[str], bytes | None] | None:
    """Return what turns a token into the bytes that it stands for, None if the decoder is of another kind."""
    found = _parts(decoder) if decoder is not None else {}
    if "ByteLevel" in found:
        return _spell_byte_level
    if "ByteFallback" in found and "\u2581" in str(found.get("Replace", "")):
        return _spell_byte_fallback
    return None


def _parts(decoder: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the decoders of a sequence by type, or the decoder itself."""
    return {part["type"]: part for part in decoder.get("decoders", [decoder])}


def _byte_alphabet() -> dict[int, int]:
    """Return the bytes that characters over 255 stand for in a byte-level vocabulary (GPT-2's `bytes_to_unicode`).

    The other characters of its alphabet stand for the byte of their own number.
    """
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return {256 + place: byte for place, byte in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()


def _spell_byte_level(token: str) -> bytes | None:
    try:
        return token.translate(_BYTE_OF).encode("latin-1")
    except UnicodeEncodeError:
        return None


def _spell_byte_fallback(token: str) -> bytes:
    byte = re.fullmatch("<0x([0-9A-F]{2})>", token)
    return bytes.fromhex(byte[1]) if byte else token.replace("\u2581", " ").encode()
