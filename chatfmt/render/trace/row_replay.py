"""Replay rows one by one, in Python, for conversations with nested data such as tool calls and content parts.

The shape covers everything in a message except texts, and numbers inside lists and objects, which programs read. A row
costs a walk over its data and some string operations. If shapes hardly repeat, as in agent trajectories, the replay
stops early and for good.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct, field

from ..jinja.inputs import drop_nulls, plain_data
from ..types import Span
from .program import Leaves, Program, Untraceable, evaluate
from .tracer import is_slot

TraceRow = Callable[[int], Program | Untraceable]
ReplayedText = tuple[str, list[Span]]
ConfirmRow = Callable[[int, ReplayedText], bool]
"""Returns whether Jinja renders a row to this text and these spans."""

MAX_SHAPES = 4096
TRIAL = 48
"""Rows after which the replay stops if fewer than one in `RARELY` of them had a known shape."""
RARELY = 8
RARE = "shapes that hardly repeat"
DIFFERS = "a replayed text differed from plain Jinja's, so nothing is replayed any more"
PATIENCE = 512
"""Rows without a replay after which the replay stops, if fewer than a fifth of all rows were replayed."""
CHECKS = 2


class _ConfirmedProgram(Struct):
    program: Program
    checked: int = 0


class _NestedShape(Struct):
    programs: list[_ConfirmedProgram] = field(default_factory=list)
    seen: int = 0
    closed: str = ""


class RowReplay:
    """The programs of nested shapes; `stopped` is the reason why the replay has stopped."""

    def __init__(self, rows: int, programs: int) -> None:
        self.enough, self.most = rows, programs
        self.stopped = ""
        self.tried = self.replayed = self.misses = self.repeated = 0
        self._shapes: dict[Hashable, _NestedShape] = {}

    def render(
        self, key: Hashable, messages: Sequence[Any], row: int, trace: TraceRow, confirm: ConfirmRow
    ) -> ReplayedText | str:
        """Return the text and spans of a row, or the reason why Jinja must render it.

        `key` is what the shape depends on besides the messages.
        """
        tokens: list[Hashable] = []
        leaves: list[Any] = []
        for message in messages:
            _walk(plain_data(drop_nulls(message)), False, tokens, leaves)
        shape = self._shape((key, tuple(tokens)))
        self.tried += 1
        found = "too many different shapes" if shape is None else self._replay(shape, leaves, row, trace, confirm)
        self._tally(isinstance(found, tuple))
        return found

    def expect(self, kinds: Iterable[Hashable]) -> None:
        """Stop before the trial if the `kinds` of its rows hardly repeat: kinds are coarser than shapes."""
        if self.tried == 0:
            seen = list(kinds)
            self._give_up(self._is_rare(len(seen), len(seen) - len(set(seen))))

    def _is_rare(self, tried: int, repeated: int) -> bool:
        return self.enough > 1 and tried == TRIAL and repeated * RARELY < TRIAL

    def _give_up(self, yes: bool) -> None:
        if yes:
            self.stopped, self._shapes = RARE, {}

    def _shape(self, key: Hashable) -> _NestedShape | None:
        known = self._shapes.get(key)
        self.repeated += known is not None
        if known is None and len(self._shapes) < MAX_SHAPES:
            known = self._shapes[key] = _NestedShape()
        return known

    def _tally(self, hit: bool) -> None:
        self.replayed += hit
        self.misses = 0 if hit else self.misses + 1
        rare = self._is_rare(self.tried, self.repeated)
        self._give_up(rare or (self.misses >= PATIENCE and self.replayed * 5 < self.tried))

    def _replay(
        self, shape: _NestedShape, leaves: list[Any], row: int, trace: TraceRow, confirm: ConfirmRow
    ) -> ReplayedText | str:
        shape.seen += 1
        for known in shape.programs:
            if text := self._run(known, leaves, row, confirm):
                return text
        if not shape.closed and shape.seen >= self.enough:
            return self._new(shape, leaves, row, trace, confirm)
        return self.stopped or shape.closed or "too few rows of its shape"

    def _new(
        self, shape: _NestedShape, leaves: list[Any], row: int, trace: TraceRow, confirm: ConfirmRow
    ) -> ReplayedText | str:
        found = trace(row)
        if isinstance(found, Untraceable):
            shape.closed = found.reason
        elif len(shape.programs) >= self.most:
            shape.closed = "its shape has too many paths through the template"
        else:
            shape.programs.append(_ConfirmedProgram(found))
            return (
                self._run(shape.programs[-1], leaves, row, confirm)
                or self.stopped
                or "a guard does not hold for its row"
            )
        return shape.closed

    def _run(self, known: _ConfirmedProgram, leaves: list[Any], row: int, confirm: ConfirmRow) -> ReplayedText | None:
        program = known.program
        if self.stopped or len(program.paths) != len(leaves):
            return None
        values = dict(zip(program.paths, leaves, strict=True))
        if not program.accepts(values):
            return None
        text = run(program, values)
        if known.checked < CHECKS:
            if not confirm(row, text):
                self.stopped = DIFFERS
                return None
            known.checked += 1
        return text


def run(program: Program, leaves: Leaves) -> ReplayedText:
    """Return the text of a program for one conversation, and its generation spans in code points."""
    pieces = [piece if isinstance(piece, str) else evaluate(piece, leaves) for piece in program.pieces]
    if not program.spans:
        return "".join(pieces), []
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    return "".join(pieces), [(ends[start], ends[end]) for start, end in program.spans]


def _walk(value: Mapping[Any, Any] | list[Any], nested: bool, tokens: list[Hashable], leaves: list[Any]) -> None:
    """Add the shape of a dict or list to `tokens`, and the values that programs read to `leaves`, in trace order."""
    if isinstance(value, list):
        tokens.append(len(value))
        items: Any = enumerate(value)
    else:
        tokens.append(tuple(value))
        items = value.items()
    for key, item in items:
        if isinstance(item, (dict, list)):
            _walk(item, True, tokens, leaves)
        elif is_slot(key, item, nested):
            tokens.append(cast(Hashable, type(item)))
            leaves.append(item)
        else:
            tokens.append((type(item), repr(item)))  # 0.0 equals -0.0
