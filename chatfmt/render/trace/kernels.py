"""Evaluate expressions and questions of programs over a whole column of texts, exactly as Python would.

The texts of a column lie in one UTF-8 buffer. Most operations only narrow a text (strip, a part of a split), so their
result is a pair of offsets into the same buffer, and no text is copied before `from_views` writes the output. An
operation without an exact kernel runs in Python, text by text. Arrow's own trim kernels are not used, since they differ
from `str.strip`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field

from ...json_columns import JSON
from .program import OPERATIONS, QUESTIONS, Expression, Piece, Question, evaluate

Int64Array = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
_NO_BYTES: ByteArray = np.zeros(0, np.uint8)


_OFTEN = b" \n.,'etaoinshrdlcumETAOINSHRDLCUM"
_RARITY = [0 if byte in _OFTEN else 1 if chr(byte).isalnum() or byte > 127 else 2 for byte in range(256)]
"""The approximate rarity of each byte in natural text."""


class TextBuffer(Struct, frozen=True):
    """A buffer of UTF-8 text; `low` and `high` bound the part in use. Caches where patterns occur."""

    buffer: pa.Buffer
    data: ByteArray
    low: int
    high: int
    found: dict[bytes, Int64Array] = field(default_factory=dict)

    def find(self, pattern: bytes) -> Int64Array:
        """Return the offsets of `pattern`, ascending, overlaps included."""
        if pattern not in self.found:
            self.found[pattern] = self._find(pattern) if pattern else np.zeros(0, np.int64)
        return self.found[pattern]

    def _find(self, pattern: bytes) -> Int64Array:
        """Search for the rarest byte of a pattern with the next (patterns share these pairs), then compare the rest."""
        if len(pattern) == 1:
            return np.flatnonzero(self.data[self.low : self.high] == pattern[0]) + self.low
        rare = max(range(len(pattern) - 1), key=lambda place: _RARITY[pattern[place]])
        core = pattern[rare : rare + min(2, len(pattern) - 1)]
        offsets = self.find(core) - rare
        offsets = offsets[(offsets >= self.low) & (offsets <= self.high - len(pattern))]
        for step in (*range(rare), *range(rare + len(core), len(pattern))):
            if len(offsets):
                offsets = offsets[self.data.take(offsets + step) == pattern[step]]
        return offsets


class TextSlices(Struct, frozen=True):
    """Texts as `[start, stop)` in bytes of one buffer."""

    source: TextBuffer
    start: Int64Array
    stop: Int64Array

    def __len__(self) -> int:
        return len(self.start)

    def pick(self, indices: npt.NDArray[Any]) -> TextSlices:
        return TextSlices(self.source, self.start[indices], self.stop[indices])

    def strings(self) -> list[str]:
        data = self.source.data
        return [data[a:b].tobytes().decode() for a, b in zip(self.start.tolist(), self.stop.tolist(), strict=True)]


def buffer_of(array: pa.Array) -> tuple[TextBuffer, Int64Array]:
    """Return the buffer of a text or JSON array and its offsets, one more than its length."""
    _, offsets_buffer, buffer = array.buffers()
    if len(array) == 0 or buffer is None or offsets_buffer is None:
        return TextBuffer(pa.py_buffer(b""), _NO_BYTES, 0, 0), np.zeros(len(array) + 1, np.int64)
    width = np.int64 if array.type == JSON else np.int32
    offsets = np.frombuffer(offsets_buffer, width)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return TextBuffer(buffer, np.frombuffer(buffer, np.uint8), int(offsets[0]), int(offsets[-1])), offsets


def to_slices(strings: Sequence[str]) -> TextSlices:
    """Return Python strings as slices of a new buffer."""
    source, offsets = buffer_of(pa.array(strings, pa.string()))
    return TextSlices(source, offsets[:-1], offsets[1:])


def distinct(numbers: Int64Array) -> list[int]:
    """Return the distinct numbers, ascending; `np.unique` would import numpy.ma (40 ms)."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    found: list[int] = ordered[first].tolist()
    return found


StringViews = npt.NDArray[np.void]
"""Texts of a string view array, 16 bytes each: the length, then 12 bytes of text, or a prefix, buffer and offset."""
_VIEW = "V16"
_INLINE = 12
"""Texts up to so many bytes lie in the view itself (Arrow columnar format, variable-size binary view layout)."""


def views_of(texts: TextSlices, source: int) -> StringViews:
    """Return the views of texts whose buffer will be number `source`."""
    views = np.zeros((len(texts), 4), np.int32)
    size = texts.stop - texts.start
    views[:, 0], views[:, 2], views[:, 3] = size, source, texts.start
    short = np.flatnonzero(size <= _INLINE)
    if len(short):
        views[short, 1:] = _inlined(texts.pick(short))
    return views.view(_VIEW)[:, 0]


def _inlined(texts: TextSlices) -> StringViews:
    """Return the bytes of short texts as three int32 each, zero after their end."""
    data, steps = texts.source.data, np.arange(_INLINE)
    if not len(data):
        return np.zeros((len(texts), 3), np.int32)
    nearest = np.minimum(texts.start[:, None] + steps, len(data) - 1)
    found = np.where(steps < (texts.stop - texts.start)[:, None], data[nearest], 0).astype(np.uint8)
    return found.view(np.int32)


def from_views(views: StringViews, sources: Sequence[TextBuffer]) -> pa.StringArray:
    """Return the texts of views, copied into one string array. Raises pa.ArrowInvalid beyond 2 GiB."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(views)), *(source.buffer for source in sources)]
    return pa.Array.from_buffers(pa.string_view(), len(views), buffers).cast(pa.string())


def leaf(expression: Expression) -> str:
    """Return the field that an expression over one text reads."""
    while expression[0] != "leaf":
        expression = next(part for part in expression[1] if not isinstance(part, str)) if expression[0] == "cat" else (
            expression[1]
        )  # fmt: skip
    return str(expression[1])


def apply(expression: Expression, texts: TextSlices) -> TextSlices:
    """Return the value of an expression over one leaf, for each of the `texts` of the leaf."""
    name, subject, *constants = expression
    if name == "leaf":
        return texts
    if name == "cat":
        field = leaf(expression)
        return to_slices([_or_empty(evaluate, expression, ({field: text},)) for text in texts.strings()])
    below = apply(subject, texts)
    kernel = _OPERATIONS.get(name)
    if kernel and (found := kernel(below, *constants)) is not None:
        return found
    return to_slices([_or_empty(OPERATIONS[name], text, constants) for text in below.strings()])


def _or_empty(operation: Callable[..., str], subject: Piece, constants: Sequence[Any]) -> str:
    """Return the result; empty if the operation fails, which it does only on texts that another guard refuses."""
    try:
        return operation(subject, *constants)
    except IndexError:
        return ""


def answers(question: Question, texts: TextSlices) -> Int64Array:
    """Return the answer to a question about one leaf, for each of its `texts`; bools are 0 and 1."""
    name, subject, *constants = question
    below = apply(subject, texts)
    kernel = _QUESTIONS.get(name)
    found = kernel(below, *constants) if kernel else None
    if found is None:
        found = np.array([QUESTIONS[name](text, *constants) for text in below.strings()], np.int64)
    return found.astype(np.int64)


def _strip(texts: TextSlices, characters: str | None) -> TextSlices | None:
    below = _rstrip(texts, characters)
    return None if below is None else _lstrip(below, characters)


def _lstrip(texts: TextSlices, characters: str | None) -> TextSlices | None:
    if characters is not None and not characters.isascii():
        return None
    data, stop = texts.source.data, texts.stop
    start = _advance(data, texts.start, stop, characters, 1)
    if characters is None:
        for place in _wide_space(data, start, stop, front=True):
            text = data[start[place] : stop[place]].tobytes().decode()
            start[place] = stop[place] - len(text.lstrip().encode())
    return TextSlices(texts.source, start, stop)


def _rstrip(texts: TextSlices, characters: str | None) -> TextSlices | None:
    if characters is not None and not characters.isascii():
        return None
    data, start = texts.source.data, texts.start
    stop = _advance(data, texts.stop, start, characters, -1)
    if characters is None:
        for place in _wide_space(data, start, stop, front=False):
            text = data[start[place] : stop[place]].tobytes().decode()
            stop[place] = start[place] + len(text.rstrip().encode())
    return TextSlices(texts.source, start, stop)


_SPACE = "\t\n\v\f\r\x1c\x1d\x1e\x1f "
"""ASCII white space of `str.strip`; Arrow's kernels leave out U+001C to U+001F."""
_STEPS = 64


def _advance(data: ByteArray, origin: Int64Array, limit: Int64Array, characters: str | None, step: int) -> Int64Array:
    """Move offsets over `characters` towards `limit`, forwards (`step` 1) or backwards (-1)."""
    table = np.zeros(256, np.bool_)
    table[np.frombuffer((_SPACE if characters is None else characters).encode(), np.uint8)] = True
    place, behind = origin.copy(), min(step, 0)
    active = np.flatnonzero(place != limit)
    for _ in range(_STEPS):
        active = active[table[data[place[active] + behind]]]
        if not len(active):
            return place
        place[active] += step
        active = active[place[active] != limit[active]]
    for one in active.tolist():
        while place[one] != limit[one] and table[data[place[one] + behind]]:
            place[one] += step
    return place


_WIDE_SPACE = "\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_WIDE = np.array([int.from_bytes(character.encode()) for character in _WIDE_SPACE], np.int64)
"""White space beyond ASCII, each as the number formed by its two or three bytes."""


def _wide_space(data: ByteArray, start: Int64Array, stop: Int64Array, *, front: bool) -> list[int]:
    """Return the indices of texts that begin (or end) with white space beyond ASCII."""
    found: list[int] = []
    filled = np.flatnonzero(stop > start)
    beyond = filled[data[start[filled] if front else stop[filled] - 1] >= 0x80]
    if not len(beyond):
        return found
    for width in (2, 3):
        indices = beyond[stop[beyond] - start[beyond] >= width]
        first = start[indices] if front else stop[indices] - width
        number = np.zeros(len(first), np.int64)
        for step in range(width):
            number = number << 8 | data[first + step]
        found += indices[(number[:, None] == _WIDE).any(axis=1)].tolist()  # `np.isin` would import numpy.ma
    return found


def _border(pattern: str) -> bool:
    """Return whether a pattern can overlap itself."""
    return any(pattern.startswith(pattern[step:]) for step in range(1, len(pattern)))


def _matches(texts: TextSlices, pattern: str) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return the offsets of a pattern in the buffer, and for each text the range of those inside it."""
    encoded = pattern.encode()
    offsets = texts.source.find(encoded)
    if not len(offsets):
        none = np.zeros(len(texts), np.int64)
        return offsets, none, none
    first = np.searchsorted(offsets, texts.start, "left")
    last = np.searchsorted(offsets, texts.stop - len(encoded), "right")
    return offsets, first, np.maximum(first, last)


def _split(texts: TextSlices, separator: str | None, most: int, place: int) -> TextSlices | None:
    if separator is None or most != -1:
        return None
    offsets, first, last = _matches(texts, separator)
    if not len(offsets):
        return texts if place in (0, -1) else TextSlices(texts.source, texts.start, texts.start)
    if _border(separator) and np.any(last > first + 1):
        return None
    return _part(texts, offsets, first, last - first, place, len(separator.encode()))


def _part(
    texts: TextSlices, offsets: Int64Array, first: Int64Array, count: Int64Array, place: int, width: int
) -> TextSlices:
    number = np.full(len(texts), place) if place >= 0 else count + 1 + place
    edge = len(offsets) - 1
    before = offsets[np.clip(first + number - 1, 0, edge)] + width
    after = offsets[np.clip(first + number, 0, edge)]
    start = np.where(number > 0, before, texts.start)
    stop = np.where(number < count, after, texts.stop)
    bad = (number < 0) | (number > count)
    return TextSlices(texts.source, np.where(bad, texts.start, start), np.where(bad, texts.start, stop))


def _replace(texts: TextSlices, old: str, new: str, count: int = -1) -> TextSlices | None:
    return texts if old and not np.any(_has(texts, old)) else None


def _removeprefix(texts: TextSlices, prefix: str) -> TextSlices:
    return TextSlices(texts.source, texts.start + _startswith_one(texts, prefix) * len(prefix.encode()), texts.stop)


def _removesuffix(texts: TextSlices, suffix: str) -> TextSlices:
    return TextSlices(texts.source, texts.start, texts.stop - _endswith_one(texts, suffix) * len(suffix.encode()))


def _true(texts: TextSlices) -> Int64Array:
    return (texts.stop > texts.start).astype(np.int64)


def _has(texts: TextSlices, part: str) -> Int64Array:
    if not part:
        return np.ones(len(texts), np.int64)
    _, first, last = _matches(texts, part)
    return (last > first).astype(np.int64)


def _parts(texts: TextSlices, separator: str | None, most: int) -> Int64Array | None:
    if separator is None or most != -1:
        return None
    _, first, last = _matches(texts, separator)
    return None if _border(separator) and np.any(last > first + 1) else last - first + 1


def _count(texts: TextSlices, part: str, *span: Any) -> Int64Array | None:
    found = None if span or not part else _parts(texts, part, -1)
    return None if found is None else found - 1


def _bytes_equal(texts: TextSlices, start: Int64Array, wanted: bytes) -> Int64Array:
    """Return whether the bytes at `start` are `wanted`; 0 for texts that are too short."""
    data = texts.source.data
    same = np.flatnonzero(texts.stop - texts.start >= len(wanted))
    for step, byte in enumerate(wanted):
        same = same[data[start[same] + step] == byte]
    found = np.zeros(len(texts), np.int64)
    found[same] = 1
    return found


def _startswith_one(texts: TextSlices, prefix: str) -> Int64Array:
    return _bytes_equal(texts, texts.start, prefix.encode())


def _endswith_one(texts: TextSlices, suffix: str) -> Int64Array:
    encoded = suffix.encode()
    return _bytes_equal(texts, texts.stop - len(encoded), encoded)


def _startswith(texts: TextSlices, prefix: str | tuple[str, ...], *span: Any) -> Int64Array | None:
    return None if span else _any_of(texts, prefix, _startswith_one)


def _endswith(texts: TextSlices, suffix: str | tuple[str, ...], *span: Any) -> Int64Array | None:
    return None if span else _any_of(texts, suffix, _endswith_one)


def _any_of(
    texts: TextSlices, affixes: str | tuple[str, ...], test: Callable[[TextSlices, str], Int64Array]
) -> Int64Array:
    found = np.zeros(len(texts), np.int64)
    for affix in (affixes,) if isinstance(affixes, str) else affixes:
        found |= test(texts, affix)
    return found


def _is(texts: TextSlices, other: Any) -> Int64Array | None:
    if not isinstance(other, str):
        return None
    encoded = other.encode()
    same: Int64Array = _bytes_equal(texts, texts.start, encoded) & (texts.stop - texts.start == len(encoded))
    return same


def _longer(texts: TextSlices, number: int) -> Int64Array:
    size = texts.stop - texts.start
    found = (size > number).astype(np.int64)
    unsure = np.flatnonzero((size > number) & (size <= 4 * number))
    if len(unsure):
        found[unsure] = [len(text) > number for text in texts.pick(unsure).strings()]
    return found


_OPERATIONS: dict[str, Callable[..., TextSlices | None]] = {
    "strip": _strip, "lstrip": _lstrip, "rstrip": _rstrip, "split": _split, "rsplit": _split, "replace": _replace,
    "removeprefix": _removeprefix, "removesuffix": _removesuffix,
}  # fmt: skip
_QUESTIONS: dict[str, Callable[..., Int64Array | None]] = {
    "true": _true, "has": _has, "parts": _parts, "rparts": _parts, "count": _count, "startswith": _startswith,
    "endswith": _endswith, "is": _is, "length>": _longer,
}  # fmt: skip
