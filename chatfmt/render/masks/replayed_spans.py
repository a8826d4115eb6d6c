"""Trained spans of replayed rows, told from the slots of their programs instead of from marks.

Where a program prints the texts of a row whole, and asks nothing of them that marks would answer otherwise, the marks
of `masks` stand where the slots are. What is found for such a row depends on its **kind** alone: its program, and the
whitespace around its texts. So two rows of a kind go the way of marks, and if their spans lie at the same places
beside the program's pieces, all others of the kind have theirs there too.

What is not here: rows whose texts hold `<think>` tags or private-use characters, which marks treat piece by piece.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field

from ... import json_columns
from ...schema import REASONING_FIELDS
from ..options import SPANS
from ..trace.batch import Replayed, lists_of
from ..trace.kernels import Numbers, Texts, apply, distinct
from ..trace.program import Program, Question, leaves_of
from ..trace.shapes import TextColumn
from ..trace.slots import TEXT_FIELDS, slot_of
from ..trace.tables import KNOWN, Ragged, ends_of
from ..types import Span
from .masker import FLAGS

Blanks = tuple[tuple[int, str, str, str], ...]
"""The texts of a row with whitespace around them, or empty: turn, field, whitespace before and after."""
Place = tuple[int, int]
"""A piece's start and a distance from it in code points."""
Spans = tuple[tuple[Place, Place], ...]
MAX_KINDS = 4096
SAMPLES = 2
"""Rows of a kind that go the way of marks, and must agree."""
_ODD = (b"<think", b"</think", b"\xf3", b"\xf4")
"""In texts that marks treat differently: tags of reasoning, and private-use characters (the planes of `marks`)."""
_NO = {
    "has": False,
    "startswith": False,
    "endswith": False,
    "is": False,
    "count": 0,
    "parts": 1,
    "rparts": 1,
    "find": -1,
}
"""Answers that marks around a text leave as they are: what is not in a text is not in it with marks either."""


class _Kind(Struct):
    """What is known of the rows of a kind."""

    seen: int = 0
    spans: Spans | None = None
    number: int = -1
    """Its number in the table of spans, once its rows agreed."""


class SpanCache(Struct):
    """The kinds known for one mask of one template."""

    _programs: Sequence[Program] = ()
    _fit: dict[int, bool] = field(default_factory=dict)
    _kinds: dict[tuple[int, Blanks], _Kind] = field(default_factory=dict)
    _table: Ragged = field(default_factory=lambda: Ragged(4))

    def kinds(self, found: Replayed, messages: pa.ListArray, *, flags: bool) -> RowGroups:
        """The kind of each row of a replayed column; `flags` says whether flags of messages are heeded."""
        if found.programs is not self._programs:
            self._programs = found.programs
            self._fit, self._kinds, self._table = {}, {}, Ragged(4)
        fit = [number for number in distinct(found.program) if self._fits(number)]
        usable = np.isin(found.program, fit)
        fields = _fields(found, messages, flags)
        if not fit or fields is None:
            return RowGroups(self, found, usable & False, {})
        blanks = dict[int, list[tuple[int, str, str, str]]]()
        for name, present in fields.items():
            usable &= ~_odd_rows(found, found.turns.columns[name])
            for row, turn, before, after in _blanks(found, found.turns.columns[name], present & _of(usable, found)):
                blanks.setdefault(row, []).append((turn, name, before, after))
        usable &= ~_silent_rows(found, messages, fields)
        return RowGroups(self, found, usable, {row: tuple(texts) for row, texts in blanks.items() if usable[row]})

    def _fits(self, number: int) -> bool:
        if number not in self._fit:
            self._fit[number] = number != KNOWN and is_markable(self._programs[number])
        return self._fit[number]


class RowGroups:
    """The kinds of the rows of one column."""

    def __init__(
        self, known: SpanCache, found: Replayed, usable: npt.NDArray[np.bool_], blanks: Mapping[int, Blanks]
    ) -> None:
        self._known, self._found, self._blanks = known, found, blanks
        rows = np.flatnonzero(usable)
        plain = rows[~np.isin(rows, np.fromiter(blanks, np.int64, len(blanks)))]
        self._rows: dict[tuple[int, Blanks], Numbers] = {}
        for number in distinct(found.program[plain]):
            self._rows[number, ()] = plain[found.program[plain] == number]
        several = dict[tuple[int, Blanks], list[int]]()
        for row, texts in blanks.items():
            several.setdefault((int(found.program[row]), texts), []).append(row)
        self._rows |= {key: np.array(places, np.int64) for key, places in several.items()}

    def sample_rows(self) -> list[int]:
        """The rows to go the way of marks first, for what they teach of the others of their kind."""
        rows = list[int]()
        for key, places in self._rows.items():
            kind = self._known._kinds.get(key, _Kind())
            if kind.seen < SAMPLES and len(self._known._kinds) < MAX_KINDS:
                rows += places[: SAMPLES - kind.seen].tolist()
        return sorted(rows)

    def record(self, row: int, spans: Sequence[Span] | None) -> None:
        """Take the spans of a row as an example of its kind; None says that marks did not tell them."""
        key = (int(self._found.program[row]), self._blanks.get(row, ()))
        kind = self._known._kinds.setdefault(key, _Kind())
        places = None if spans is None else self._placed(row, spans)
        kind.spans = places if not kind.seen or places == kind.spans else None
        kind.seen = SAMPLES if kind.spans is None else kind.seen + 1
        if kind.seen == SAMPLES and kind.spans is not None:
            kind.number = len(self._known._table)
            self._known._table.append([(*start, *end) for start, end in kind.spans])

    def spans(self, taught: Collection[int] = ()) -> tuple[Numbers, pa.ListArray]:
        """The rows whose spans are known by now, ascending, without those that taught them, and their spans."""
        kinds = ((self._known._kinds.get(key), places) for key, places in self._rows.items())
        known = [(kind.number, places) for kind, places in kinds if kind is not None and kind.number >= 0]
        rows = np.concatenate([np.zeros(0, np.int64), *(places for _, places in known)])
        numbers = np.array([number for number, _ in known], np.int64)
        order = np.argsort(rows)
        order = order[~np.isin(rows[order], np.fromiter(taught, np.int64, len(taught)))]
        which = np.repeat(numbers, np.array([len(places) for _, places in known], np.int64))[order]
        rows = rows[order]
        if not len(rows):
            return rows, pa.array([], SPANS)
        owner, (first, skip, last, more) = self._known._table.expand(which)
        origin = self._bounds[rows[owner]]
        start, end = self._ends[origin + first] + skip, self._ends[origin + last] + more
        return rows, lists_of(owner, start - self._ends[origin], end - self._ends[origin], len(rows))

    @property
    def _bounds(self) -> Numbers:
        assert self._found.pieces is not None
        return self._found.pieces.bounds

    @cached_property
    def _ends(self) -> Numbers:
        assert self._found.pieces is not None
        return ends_of(self._found.pieces)

    def _placed(self, row: int, spans: Sequence[Span]) -> Spans | None:
        """Spans as places beside the pieces of the row's program; None where one lies inside a text."""
        low, high = self._bounds[row], self._bounds[row + 1]
        ends = self._ends[low : high + 1] - self._ends[low]
        found = [(self._place(row, ends, start), self._place(row, ends, end)) for start, end in spans]
        return tuple((start, end) for start, end in found if start and end) if all(map(all, found)) else None

    def _place(self, row: int, ends: Numbers, place: int) -> Place | None:
        number = int(np.searchsorted(ends, place, "right")) - 1
        pieces = self._known._programs[self._found.program[row]].pieces
        if number >= len(pieces) or ends[number] == place or isinstance(piece := pieces[number], str):
            return number, place - int(ends[number])
        slot = slot_of(piece)
        around = {(turn, name): (before, after) for turn, name, before, after in self._blanks.get(row, ())}
        before, after = around.get((slot.turn, slot.field), ("", "")) if slot else ("", "")
        if slot and not slot.left and place - ends[number] <= len(before):
            return number, place - int(ends[number])
        if slot and not slot.right and ends[number + 1] - place <= len(after):
            return number + 1, place - int(ends[number + 1])
        return None


def is_markable(program: Program) -> bool:
    """Whether marks around what is said would be printed at the program's slots, and change nothing else."""
    slots = [slot_of(piece) for piece in program.pieces if not isinstance(piece, str)]
    return all(slot and slot.field in TEXT_FIELDS for slot in slots) and all(
        _unaffected_by_markers(*guard) for guard in program.guards
    )


def _unaffected_by_markers(question: Question, answer: object) -> bool:
    """Whether a question that was answered so is answered so of the text with marks as well."""
    name, subject, *constants = question
    if next(leaves_of(subject))[-1] not in TEXT_FIELDS:
        return True
    if not slot_of(subject):
        return False
    if name == "true" or (name, *constants) == ("length>", 0):
        return True
    return name in _NO and answer == _NO[name] and len(constants) > 0 and constants[0] not in ("", None)


def _fields(found: Replayed, messages: pa.ListArray, flags: bool) -> dict[str, npt.NDArray[np.bool_]] | None:
    """For each field that is said, the turns that have it; None where a column holds what no shape tells."""
    turns, names = messages.flatten(), found.turns.columns
    if (
        found.pieces is None
        or (flags and not names.keys().isdisjoint(FLAGS))
        or len(names.keys() & {*REASONING_FIELDS}) > 1
    ):
        return None
    if any(
        column.source.find(sign).size for name, column in names.items() if name not in TEXT_FIELDS for sign in _ODD[2:]
    ):
        return None
    said = {
        field.name: column
        for field, column in zip(turns.type, turns.flatten(), strict=True)
        if field.name in TEXT_FIELDS
    }
    roles = [field.type for field in turns.type if field.name == "role"]
    if any(kind != json_columns.TEXT for kind in [*roles, *(column.type for column in said.values())]) or not roles:
        return None
    return {name: column.is_valid().to_numpy(zero_copy_only=False) for name, column in said.items()}


def _of(rows: npt.NDArray[np.bool_], found: Replayed) -> npt.NDArray[np.bool_]:
    """For each turn, whether its row is one of `rows`."""
    return np.repeat(rows, found.turns.lengths)


def _rows_of(turns: Numbers, found: Replayed) -> Numbers:
    """The rows of some turns."""
    return np.searchsorted(found.turns.starts + found.turns.lengths, turns, "right")


def _odd_rows(found: Replayed, column: TextColumn) -> npt.NDArray[np.bool_]:
    """The rows with a text that marks may treat piece by piece."""
    rows = np.zeros(len(found.program), np.bool_)
    for sign in _ODD:
        places = column.source.find(sign)
        rows[_rows_of(np.searchsorted(column.offsets, places, "right") - 1, found)] = True
    return rows


def _silent_rows(
    found: Replayed, messages: pa.ListArray, fields: Mapping[str, npt.NDArray[np.bool_]]
) -> npt.NDArray[np.bool_]:
    """The rows in which the assistant's content is blank and no tool is called, which are marked another way."""
    rows = np.zeros(len(found.program), np.bool_)
    if "content" not in fields:
        return rows
    turns = messages.flatten()
    start, stop = _core(found.turns.columns["content"], np.arange(len(turns)))
    spoken = pc.equal(pc.struct_field(turns, "role"), "assistant").fill_null(False).to_numpy(False)
    silent = fields["content"] & (start == stop) & spoken
    if turns.type.get_field_index("tool_calls") >= 0:
        silent &= ~pc.struct_field(turns, "tool_calls").is_valid().to_numpy(False)
    rows[_rows_of(np.flatnonzero(silent), found)] = True
    return rows


def _core(column: TextColumn, turns: Numbers) -> tuple[Numbers, Numbers]:
    """Where each text begins and ends without the whitespace around it."""
    texts = apply(("strip", ("leaf", ""), None), column.at(turns))
    return texts.start, texts.stop


def _blanks(found: Replayed, column: TextColumn, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, str, str]]:
    """Row, turn and whitespace before and after, of the wanted texts that have some or are empty."""
    turns = np.flatnonzero(wanted)
    texts = column.at(turns)
    start, stop = _core(column, turns)
    places = np.flatnonzero((start == stop) | (start != texts.start) | (stop != texts.stop))
    rows = _rows_of(turns[places], found)
    before = Texts(texts.source, texts.start[places], start[places]).strings()
    after = Texts(texts.source, stop[places], texts.stop[places]).strings()
    numbers = (turns[places] - found.turns.starts[rows]).tolist()
    yield from zip(rows.tolist(), numbers, before, after, strict=True)
