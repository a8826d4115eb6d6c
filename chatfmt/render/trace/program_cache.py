"""The programs of one template by shape of conversation, and the decision whether another trace pays.

Everything here is bounded in number: shapes, programs per shape, and traces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct, field

from ...rendering import ConversationBatch, RenderRequest
from ...turn_columns import to_bools
from .kernels import Int64Array, distinct
from .program import Program
from .shapes import NO_SHAPE, Shapes, TurnTable, constants_of, read_turns
from .tables import Tables

CONFIRMATIONS = 2
"""Rows of a program whose text Jinja must confirm before the program is trusted."""
WINDOW = 500
"""Rows after which the search for shapes pauses if fewer than one in `PAUSE_BELOW` was replayed."""
PAUSE_BELOW = 16
LONGEST_PAUSE = 16 * WINDOW


class TraceLimits(Struct, frozen=True):
    """Limits on traces, which must pay for themselves, and on the programs that are kept."""

    rows: int = 8
    """Rows of a shape that must have been seen before it is traced: a trace costs as much as some renders."""
    rare: int = 256
    """A shape with less than one row in so many must have been seen up to eight times as often."""
    programs: int = 32
    """Programs per shape. Answers with and without `<think>` double the paths with each turn."""
    traces: int = 2048
    free: int = 4
    """Traces that need not be earned; each further one takes `rows_per_trace` replayed or waiting rows."""
    rows_per_trace: int = 16
    different: int = 32
    """A JSON field with at most so many different values is always part of the shape."""


class ShapePrograms(Struct):
    """The programs of one shape, best first."""

    programs: list[int] = field(default_factory=list)
    seen: int = 0
    """Rows of the shape."""
    replayed: int = 0
    """Rows that its programs accepted."""
    closed: str = ""
    """The reason why the shape gets no more programs; empty if it may."""


class SearchPause(Struct):
    """Pauses the search for shapes, which costs time, where hardly a row is replayed; each pause is twice as long."""

    tried: int = 0
    replayed: int = 0
    length: int = 0
    left: int = 0
    """Rows until the pause ends."""

    def is_over(self, rows: int) -> bool:
        """Return whether the next `rows` rows are searched, and count them."""
        self.left -= rows
        return self.left < 0

    def record(self, rows: int, replayed: int) -> None:
        self.tried, self.replayed = self.tried + rows, self.replayed + replayed
        if self.tried >= WINDOW:
            rare = self.replayed * PAUSE_BELOW < self.tried
            self.length = self.left = min(2 * self.length or WINDOW, LONGEST_PAUSE) if rare else 0
            self.tried = self.replayed = 0


class ProgramCache:
    """The programs known by shape, and the budget for new ones; `clear` keeps the budget."""

    def __init__(self, limits: TraceLimits) -> None:
        self.limits = limits
        self.traces = 0
        """Traces made."""
        self._rows_seen = self._rows_replayed = 0
        self.clear()

    def clear(self) -> None:
        self.shapes, self.tables = Shapes(), Tables()
        self._by_shape: dict[int, ShapePrograms] = {}
        self._confirmed: Counter[int] = Counter()

    def read(self, chats: ConversationBatch, request: RenderRequest) -> tuple[TurnTable, Int64Array]:
        """Return the turns of a batch and the shape of each row, `NO_SHAPE` for null."""
        self._rows_seen += len(chats)
        turns = read_turns(chats.messages, self.shapes.classes, self.limits.different)
        shapes = self.shapes.of(turns, constants_of(chats, request, self.shapes.constants))
        shapes[~to_bools(chats.messages.is_valid())] = NO_SHAPE
        return turns, shapes

    def of(self, shape: int) -> ShapePrograms:
        return self._by_shape.setdefault(shape, ShapePrograms())

    def why_closed(self, shape: int) -> str:
        known = self._by_shape.get(shape)
        return known.closed if known else ""

    def shapes_closed_for(self, reason: str) -> list[int]:
        return [shape for shape, known in self._by_shape.items() if known.closed == reason]

    def candidates(self, shapes: Int64Array) -> Iterator[dict[int, int]]:
        """Yield the best program of each shape that has one, then the second best of each, and so on."""
        known = {shape: self._by_shape[shape].programs for shape in distinct(shapes) if shape in self._by_shape}
        for rank in range(max(map(len, known.values()), default=0)):
            yield {shape: programs[rank] for shape, programs in known.items() if len(programs) > rank}

    def add(self, shape: int, program: Program) -> int:
        """Add a program to a shape and return its number."""
        number = self.tables.add(program)
        self.of(shape).programs.append(number)
        return number

    def record(self, shapes: Sequence[int], replayed: Int64Array) -> None:
        """Count the rows that programs accepted; `replayed` has their number at the index of each shape."""
        self._rows_replayed += int(replayed.sum())
        for shape in shapes:
            self._by_shape[shape].replayed += int(replayed[shape])

    def confirm(self, program: int, rows: int) -> None:
        """Record that Jinja rendered this many rows as the program does."""
        self._confirmed[program] += rows

    def is_confirmed(self, program: int) -> bool:
        return self._confirmed[program] >= CONFIRMATIONS

    def pays(self, known: ShapePrograms, rows: int) -> bool:
        """Return whether a trace for `rows` waiting rows of a shape can be expected to earn what it costs."""
        limits = self.limits
        earned = limits.free + (self._rows_replayed + rows) // limits.rows_per_trace
        if len(known.programs) >= limits.programs:
            known.closed = "its shape has too many paths through the template"
        needed = min(max(limits.rows, self._rows_seen // limits.rare), 8 * limits.rows)
        enough = known.seen >= needed and rows >= min(limits.rows, CONFIRMATIONS)
        fruitful = known.replayed >= limits.rows * len(known.programs)
        return enough and fruitful and not known.closed and self.traces < min(earned, limits.traces)
