"""Compute trained spans of replayed rows from their programs, without rendering them with markers.

If a program prints the texts of a row whole, and tests nothing on them that markers would change, then the markers of
`masker` would be printed at the program's slots. The spans of such a row depend on its **group** only: its program, and
the whitespace around its texts. So two sample rows per group are masked by markers, and if their spans are at the same
places relative to the pieces of the program, so are those of all other rows of the group.

Not covered: rows with `<think>` tags or private-use characters in their texts, which markers treat piece by piece,
and rows of which parts of a content are trained (`train_detail`), which depend on its length.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field

from ... import json_columns
from ...schema import REASONING_FIELDS, TRAIN_DETAILS, TRAIN_KEYS
from ...turn_columns import to_bools
from ..options import SPANS
from ..trace.batch import Replayed, lists_of
from ..trace.kernels import Int64Array, TextSlices, apply, distinct
from ..trace.program import Program
from ..trace.shapes import TextColumn
from ..trace.slots import TEXT_FIELDS, is_markable, slot_of
from ..trace.tables import KNOWN, Ragged, ends_of
from ..types import Span

PaddedText = tuple[int, str, str, str | None]
"""A text that has whitespace around it or is blank: turn, field, whitespace before, after; None after a blank text."""
Padding = tuple[PaddedText, ...]
GroupKey = tuple[int, Padding]
"""The program of a row and its padding."""
PieceOffset = tuple[int, int]
"""A piece of a program, and a distance from its start in code points."""
PieceSpans = tuple[tuple[PieceOffset, PieceOffset], ...]
MAX_GROUPS = 4096
SAMPLES = 2
"""Rows per group that are masked by markers, and must agree."""
_PRIVATE_USE = (b"\xf3", b"\xf4")
"""The first bytes of private-use characters (`markers.PLANES`)."""
_SPLIT_BY_MARKERS = ((b"<think",), (b"</", b"think"), *((byte,) for byte in _PRIVATE_USE))
"""Bytes of texts that markers treat piece by piece, all of a group in one text: reasoning tags, private-use characters.

A tag may have a prefix, as in `</seed:think>`.
"""


class _GroupRecord(Struct):
    """The samples and spans known for a group of rows."""

    samples: int = 0
    spans: PieceSpans | None = None
    number: int = -1
    """Its number in the table of spans, once its samples agree."""


class SpanCache(Struct):
    """The groups known for one mask of one template."""

    _programs: Sequence[Program] = ()
    _markable: dict[int, bool] = field(default_factory=dict)
    _groups: dict[GroupKey, _GroupRecord] = field(default_factory=dict)
    _table: Ragged = field(default_factory=lambda: Ragged(4))

    def group_rows(self, replayed: Replayed, messages: pa.ListArray, *, flags: bool) -> SpanGroups:
        """Group the rows of a replayed column; `flags` means that the training flags of messages are respected."""
        if replayed.programs is not self._programs:
            self._programs = replayed.programs
            self._markable, self._groups, self._table = {}, {}, Ragged(4)
        markable = [number for number in distinct(replayed.program) if self._is_markable(number)]
        usable = np.isin(replayed.program, markable)
        fields = _text_fields(replayed, messages, flags)
        if not markable or fields is None:
            return SpanGroups(self, replayed, usable & False, {})
        padding = dict[int, list[PaddedText]]()
        for name, present in fields.items():
            column = replayed.turns.columns[name]
            usable &= ~_rows_split_by_markers(replayed, column)
            in_usable_rows = np.repeat(usable, replayed.turns.lengths)
            for row, turn, before, after in _padded_texts(replayed, column, present & in_usable_rows):
                padding.setdefault(row, []).append((turn, name, before, after))
        usable &= ~_rows_with_blank_answers(replayed, messages, fields)
        usable &= ~_rows_with(TRAIN_DETAILS if flags else (), replayed, messages)
        return SpanGroups(self, replayed, usable, {row: tuple(texts) for row, texts in padding.items() if usable[row]})

    def _is_markable(self, number: int) -> bool:
        if number not in self._markable:
            self._markable[number] = number != KNOWN and is_markable(self._programs[number])
        return self._markable[number]


class SpanGroups:
    """The groups of the rows of one column."""

    def __init__(
        self, cache: SpanCache, replayed: Replayed, usable: npt.NDArray[np.bool_], padding: Mapping[int, Padding]
    ) -> None:
        self._cache, self._replayed, self._padding = cache, replayed, padding
        rows = np.flatnonzero(usable)
        plain = rows[~np.isin(rows, np.fromiter(padding, np.int64, len(padding)))]
        self._rows: dict[GroupKey, Int64Array] = {}
        for number in distinct(replayed.program[plain]):
            self._rows[number, ()] = plain[replayed.program[plain] == number]
        padded = dict[GroupKey, list[int]]()
        for row, texts in padding.items():
            padded.setdefault((int(replayed.program[row]), texts), []).append(row)
        self._rows |= {key: np.array(indices, np.int64) for key, indices in padded.items()}

    def sample_rows(self) -> list[int]:
        """Return the rows to mask by markers first, as samples of their groups."""
        rows = list[int]()
        for key, indices in self._rows.items():
            group = self._cache._groups.get(key, _GroupRecord())
            if group.samples < SAMPLES and len(self._cache._groups) < MAX_GROUPS:
                rows += indices[: SAMPLES - group.samples].tolist()
        return sorted(rows)

    def record(self, row: int, spans: Sequence[Span] | None) -> None:
        """Record the spans of a sample row; None if markers did not find them."""
        key = (int(self._replayed.program[row]), self._padding.get(row, ()))
        group = self._cache._groups.setdefault(key, _GroupRecord())
        found = None if spans is None else self._relative(row, spans)
        group.spans = found if not group.samples or found == group.spans else None
        group.samples = SAMPLES if group.spans is None else group.samples + 1
        if group.samples == SAMPLES and group.spans is not None:
            group.number = len(self._cache._table)
            self._cache._table.append([(*start, *end) for start, end in group.spans])

    def spans(self, samples: Collection[int] = ()) -> tuple[Int64Array, pa.ListArray]:
        """Return the rows whose spans are known by now, ascending and without `samples`, and their spans."""
        groups = ((self._cache._groups.get(key), indices) for key, indices in self._rows.items())
        known = [(group.number, indices) for group, indices in groups if group is not None and group.number >= 0]
        rows = np.concatenate([np.zeros(0, np.int64), *(indices for _, indices in known)])
        numbers = np.array([number for number, _ in known], np.int64)
        order = np.argsort(rows)
        order = order[~np.isin(rows[order], np.fromiter(samples, np.int64, len(samples)))]
        number_of_row = np.repeat(numbers, np.array([len(indices) for _, indices in known], np.int64))[order]
        rows = rows[order]
        if not len(rows):
            return rows, pa.array([], SPANS)
        owner, (first, skip, last, more) = self._cache._table.expand(number_of_row)
        origin = self._bounds[rows[owner]]
        start, end = self._ends[origin + first] + skip, self._ends[origin + last] + more
        return rows, lists_of(owner, start - self._ends[origin], end - self._ends[origin], len(rows))

    @property
    def _bounds(self) -> Int64Array:
        assert self._replayed.pieces is not None
        return self._replayed.pieces.bounds

    @cached_property
    def _ends(self) -> Int64Array:
        assert self._replayed.pieces is not None
        return ends_of(self._replayed.pieces)

    def _relative(self, row: int, spans: Sequence[Span]) -> PieceSpans | None:
        """Return spans relative to the pieces of the row's program; None if one begins or ends inside a text."""
        low, high = self._bounds[row], self._bounds[row + 1]
        ends = self._ends[low : high + 1] - self._ends[low]
        found = [(self._piece_offset(row, ends, start), self._piece_offset(row, ends, end)) for start, end in spans]
        return tuple((start, end) for start, end in found if start and end) if all(map(all, found)) else None

    def _piece_offset(self, row: int, ends: Int64Array, offset: int) -> PieceOffset | None:
        number = int(np.searchsorted(ends, offset, "right")) - 1
        pieces = self._cache._programs[self._replayed.program[row]].pieces
        if number >= len(pieces) or ends[number] == offset or isinstance(piece := pieces[number], str):
            return number, offset - int(ends[number])
        slot = slot_of(piece)
        padding = {(turn, name): (before, after) for turn, name, before, after in self._padding.get(row, ())}
        before, after = padding.get((slot.turn, slot.field), ("", "")) if slot else ("", "")
        if slot and not slot.left and offset - ends[number] <= len(before):
            return number, offset - int(ends[number])
        if slot and not slot.right and ends[number + 1] - offset <= len(after or ""):
            return number + 1, offset - int(ends[number + 1])
        return None


def _text_fields(replayed: Replayed, messages: pa.ListArray, flags: bool) -> dict[str, npt.NDArray[np.bool_]] | None:
    """Return for each text field which turns have it; None if a column holds what groups do not distinguish."""
    turns, names = messages.flatten(), replayed.turns.columns
    if replayed.pieces is None or (flags and not names.keys().isdisjoint(TRAIN_KEYS)):
        return None
    if len(names.keys() & {*REASONING_FIELDS}) > 1:
        return None
    others = [column for name, column in names.items() if name not in TEXT_FIELDS]
    if any(column.source.find(byte).size for column in others for byte in _PRIVATE_USE):
        return None
    columns = {field.name: column for field, column in zip(turns.type, turns.flatten(), strict=True)}
    texts = {name: column for name, column in columns.items() if name in TEXT_FIELDS}
    if "role" not in columns or any(column.type != json_columns.TEXT for column in (columns["role"], *texts.values())):
        return None
    return {name: to_bools(column.is_valid()) for name, column in texts.items()}


def _rows_of(turns: Int64Array, replayed: Replayed) -> Int64Array:
    """Return the row of each turn."""
    return np.searchsorted(replayed.turns.starts + replayed.turns.lengths, turns, "right")


def _rows_split_by_markers(replayed: Replayed, column: TextColumn) -> npt.NDArray[np.bool_]:
    """Return which rows have a text that markers may treat piece by piece."""
    rows = np.zeros(len(replayed.program), np.bool_)
    for patterns in _SPLIT_BY_MARKERS:
        found = [np.searchsorted(column.offsets, column.source.find(each), "right") - 1 for each in patterns]
        rows[_rows_of(reduce(np.intersect1d, found), replayed)] = True
    return rows


def _rows_with(names: Collection[str], replayed: Replayed, messages: pa.ListArray) -> npt.NDArray[np.bool_]:
    """Return which rows have a turn with one of these fields."""
    rows = np.zeros(len(replayed.program), np.bool_)
    for named, column in zip(messages.type.value_type, messages.flatten().flatten(), strict=True):
        if named.name in names:
            rows[_rows_of(np.flatnonzero(column.is_valid()), replayed)] = True
    return rows


def _rows_with_blank_answers(
    replayed: Replayed, messages: pa.ListArray, fields: Mapping[str, npt.NDArray[np.bool_]]
) -> npt.NDArray[np.bool_]:
    """Return which rows have an assistant turn with blank content and no tool calls, marked by another plan."""
    rows = np.zeros(len(replayed.program), np.bool_)
    if "content" not in fields:
        return rows
    turns = messages.flatten()
    start, stop = _stripped(replayed.turns.columns["content"], np.arange(len(turns)))
    assistant = to_bools(pc.equal(pc.struct_field(turns, "role"), "assistant"))
    blank = fields["content"] & (start == stop) & assistant
    index = turns.type.get_field_index("tool_calls")
    if index >= 0 and turns.type[index].type in (json_columns.TEXT, json_columns.JSON):
        lengths = pc.binary_length(turns.field(index)).fill_null(0)
        blank &= lengths.to_numpy(zero_copy_only=False) <= len("[]")
    rows[_rows_of(np.flatnonzero(blank), replayed)] = True
    return rows


def _stripped(column: TextColumn, turns: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return where each text begins and ends without the whitespace around it."""
    texts = apply(("strip", ("leaf", ""), None), column.at(turns))
    return texts.start, texts.stop


def _padded_texts(
    replayed: Replayed, column: TextColumn, wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, int, str, str | None]]:
    """Yield row, turn, whitespace before and after for each wanted text that is blank or has whitespace around it.

    A blank text is the whitespace before, and None after: it is not marked, whatever another text has around it.
    """
    turns = np.flatnonzero(wanted)
    texts = column.at(turns)
    start, stop = _stripped(column, turns)
    indices = np.flatnonzero((start == stop) | (start != texts.start) | (stop != texts.stop))
    rows = _rows_of(turns[indices], replayed)
    blank = (start == stop)[indices]
    lead = np.where(blank, texts.stop[indices], start[indices])
    before = TextSlices(texts.source, texts.start[indices], lead).strings()
    trail = TextSlices(texts.source, stop[indices], texts.stop[indices]).strings()
    after = [None if empty else text for empty, text in zip(blank.tolist(), trail, strict=True)]
    numbers = (turns[indices] - replayed.turns.starts[rows]).tolist()
    yield from zip(rows.tolist(), numbers, before, after, strict=True)
