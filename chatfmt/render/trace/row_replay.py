"""Replay row by row, in Python: for conversations whose shape lies in lists and objects, such as tool calls and parts.

Here the shape covers everything in a message but texts, and numbers inside lists and objects; those are what a program
reads. A row costs a walk over its data and some string operations. Where shapes hardly repeat, as in the trajectories
of agents, the walk is given up soon, for good.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct, field

from ..jinja.inputs import drop_nulls, plain_data
from ..types import Span
from .program import Leaves, Program, Untraceable, evaluate
from .tracer import is_slot

Trace = Callable[[int], Program | Untraceable]
Text = tuple[str, list[Span]]
Confirm = Callable[[int, Text], bool]
"""Whether plain Jinja gives a row this text and these spans."""

MAX_SHAPES = 4096
TRIAL = 48
"""Rows after which it is given up if hardly any of them had the shape of one before: less than one in `RARELY`."""
RARELY = 8
RARE = "shapes that hardly repeat"
PATIENCE = 512
"""Rows without a replay after which it is given up, if fewer than a fifth of all rows were replayed."""
CHECKS = 2


class _Known(Struct):
    program: Program
    checked: int = 0


class _Shape(Struct):
    programs: list[_Known] = field(default_factory=list)
    seen: int = 0
    closed: str = ""


class RowReplay:
    """What is known of such shapes; `stopped` says why it was given up."""

    def __init__(self, rows: int, programs: int) -> None:
        self.enough, self.most = rows, programs
        self.stopped = ""
        self.tried = self.replayed = self.misses = self.repeated = 0
        self._shapes: dict[Hashable, _Shape] = {}

    def render(self, key: Hashable, messages: Sequence[Any], row: int, trace: Trace, confirm: Confirm) -> Text | str:
        """The text and spans of a row, or why it has to go through plain Jinja.

        `key` is what else the shape depends on. `trace` makes a program of a row, `confirm` asks plain Jinja.
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
        """Give up before the trial where the `kinds` of its rows, which tell less than their shapes, hardly repeat."""
        if self.tried == 0:
            seen = list(kinds)
            self._give_up(self._is_rare(len(seen), len(seen) - len(set(seen))))

    def _is_rare(self, tried: int, repeated: int) -> bool:
        return self.enough > 1 and tried == TRIAL and repeated * RARELY < TRIAL

    def _give_up(self, yes: bool) -> None:
        if yes:
            self.stopped, self._shapes = RARE, {}

    def _shape(self, key: Hashable) -> _Shape | None:
        known = self._shapes.get(key)
        self.repeated += known is not None
        if known is None and len(self._shapes) < MAX_SHAPES:
            known = self._shapes[key] = _Shape()
        return known

    def _tally(self, hit: bool) -> None:
        self.replayed += hit
        self.misses = 0 if hit else self.misses + 1
        rare = self._is_rare(self.tried, self.repeated)
        self._give_up(rare or (self.misses >= PATIENCE and self.replayed * 5 < self.tried))

    def _replay(self, shape: _Shape, leaves: list[Any], row: int, trace: Trace, confirm: Confirm) -> Text | str:
        shape.seen += 1
        for known in shape.programs:
            if text := self._run(known, leaves, row, confirm):
                return text
        if not shape.closed and shape.seen >= self.enough:
            return self._new(shape, leaves, row, trace, confirm)
        return self.stopped or shape.closed or "too few rows of its shape"

    def _new(self, shape: _Shape, leaves: list[Any], row: int, trace: Trace, confirm: Confirm) -> Text | str:
        found = trace(row)
        if isinstance(found, Untraceable):
            shape.closed = found.reason
        elif len(shape.programs) >= self.most:
            shape.closed = "its shape has too many paths through the template"
        else:
            shape.programs.append(_Known(found))
            return (
                self._run(shape.programs[-1], leaves, row, confirm)
                or self.stopped
                or "a guard does not hold for its row"
            )
        return shape.closed

    def _run(self, known: _Known, leaves: list[Any], row: int, confirm: Confirm) -> Text | None:
        program = known.program
        if self.stopped or len(program.paths) != len(leaves):
            return None
        values = dict(zip(program.paths, leaves, strict=True))
        if not program.accepts(values):
            return None
        text = run(program, values)
        if known.checked < CHECKS:
            if not confirm(row, text):
                self.stopped = "a replayed text differed from plain Jinja's, so nothing is replayed any more"
                return None
            known.checked += 1
        return text


def run(program: Program, leaves: Leaves) -> Text:
    """The text of a program for one conversation, and its generation spans in code points."""
    pieces = [piece if isinstance(piece, str) else evaluate(piece, leaves) for piece in program.pieces]
    if not program.spans:
        return "".join(pieces), []
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    return "".join(pieces), [(ends[start], ends[end]) for start, end in program.spans]


def _walk(value: Mapping[Any, Any] | list[Any], nested: bool, tokens: list[Hashable], leaves: list[Any]) -> None:
    """Add the shape of a dict or list to `tokens` and what a program reads to `leaves`, in the order of `trace`."""
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
