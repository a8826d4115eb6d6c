"""The traced engine: conversations that share a shape share a program, which runs over Arrow columns.

    shapes    which conversations are alike (`shapes`)
    programs  for each shape, those known so far; rows whose guards agree are replayed (`tables`)
    tracing   shapes with enough rows that no program takes get a new one (`trace`), checked against plain Jinja
    the rest  goes through plain Jinja, which alone defines texts and errors

What is not here: any way to a text that plain Jinja did not confirm for two rows of the same program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ... import json_columns
from ...errors import RenderError, TemplateError
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, Renderer, RenderRequest
from ..options import RenderOptions
from ..template.chat_template import ChatTemplate
from .batch import Batch, Replayed, lists_of, merged, spans_of, together
from .kernels import Numbers, distinct
from .program import Program, Untraceable
from .row_replay import RARE, TRIAL, RowReplay, Text
from .shapes import MAX_TURNS, NO_SHAPE, NO_TURNS, Shapes, constants_of, dense, read_turns
from .slots import has_only_text
from .tables import KNOWN, Pieces, Tables, is_columnar
from .tracer import Inputs, trace

Tracer = Callable[..., Program | Untraceable]


class Limits(Struct, frozen=True):
    """When tracing pays, and how much is remembered."""

    rows: int = 8
    """A shape is traced once so many rows of it have been seen: a trace costs as much as some plain renders."""
    rare: int = 256
    """Of a shape that one row in more than so many has, up to eight times as many rows must have been seen."""
    programs: int = 32
    """Programs a shape; answers with and without `<think>` double the paths with each turn."""
    traces: int = 2048
    free: int = 4
    """Traces before they have to earn the next one, which takes `rows_per_trace` replayed or waiting rows."""
    rows_per_trace: int = 16
    different: int = 32
    """So many different JSON values of a key always count as few, which makes them part of the shape."""


LIMITS = Limits()


SEVERAL = "an expression reads several texts"
WINDOW = 500
"""Rows after which the search for shapes pauses if fewer than one in `HARDLY` was replayed."""
HARDLY = 16
LONGEST = 16 * WINDOW
CHECKS = 2
"""Rows that plain Jinja must confirm before a program is believed."""


class Stats(Struct):
    """How many rows each path rendered, why rows went through plain Jinja, and how many traces were made."""

    replayed: int = 0
    python: int = 0
    jinja: int = 0
    traces: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return self.replayed + self.python + self.jinja

    @property
    def share(self) -> float:
        """The share of rows that did not need Jinja; 1 where there were none."""
        return (self.replayed + self.python) / self.rows if self.rows else 1.0


class _Shape(Struct):
    """What is known of one shape: its programs, best first, and why there will be no more of them."""

    programs: list[int] = field(default_factory=list)
    seen: int = 0
    taken: int = 0
    """Rows that its programs took."""
    closed: str = ""


class _Patience(Struct):
    """Where hardly a row is replayed, the search for shapes pauses, each time twice as long: it costs, too."""

    tried: int = 0
    replayed: int = 0
    length: int = 0
    left: int = 0
    """Rows of the pause that are to come."""

    def takes(self, rows: int) -> bool:
        """Whether the next rows are to be looked at."""
        self.left -= rows
        return self.left < 0

    def learn(self, rows: int, replayed: int) -> None:
        self.tried, self.replayed = self.tried + rows, self.replayed + replayed
        if self.tried >= WINDOW:
            rare = self.replayed * HARDLY < self.tried
            self.length = self.left = min(2 * self.length or WINDOW, LONGEST) if rare else 0
            self.tried = self.replayed = 0


class TracedRenderer:
    """Renders a column of conversations as `JinjaRenderer` does, replaying what it can; `stats` says how much.

    One object keeps its programs from call to call, all of them bounded in number. With `options.engine` `trace` a row
    that cannot be replayed raises TemplateError with the reason (or what Jinja raises for it).
    """

    def __init__(
        self,
        template: ChatTemplate,
        options: RenderOptions,
        fallback: Renderer,
        *,
        tracer: Tracer = trace,
        limits: Limits = LIMITS,
    ) -> None:
        self.template, self.options, self.fallback = template, options, fallback
        self.stats, self.off = Stats(), "the end of the final message is cut by Jinja" if options.continue_final else ""
        self.limits, self._tracer, self._strict = limits, tracer, options.engine == "trace"
        self._taken, self._looked, self._patience = 0, 0, _Patience()
        self._forget()

    def _forget(self) -> None:
        self._shapes, self._tables = Shapes(), Tables()
        self._known: dict[int, _Shape] = {}
        self._checked: Counter[int] = Counter()
        self._rows = RowReplay(1 if self._strict else self.limits.rows, self.limits.programs)

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        """As `Renderer` says."""
        return self.replay(chats, request, failures).rendered

    def replay(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Replayed:
        """The rendered column, as a call gives it, and the program of each row with its pieces."""
        return self._write(self._matched(chats, self.options.resolved(request)), failures)

    def _matched(self, chats: ConversationBatch, request: RenderRequest) -> Batch:
        """The batch, with a program or a text for each row that can be replayed."""
        nothing = np.full(len(chats), NO_SHAPE, np.int64)
        batch = Batch(chats, request, NO_TURNS, nothing, nothing.copy())
        if not self.off and (self._strict or self._patience.takes(len(chats))):
            self._read(batch)
            self._replay_known(batch)
            self._trace_new(batch)
            self._replay_rows(batch)
            self._patience.learn(len(chats), int((batch.program >= 0).sum()) + len(batch.texts))
        return batch

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs that run over columns, in the order in which they were traced."""
        return tuple(self._tables.programs[1:])

    def _read(self, batch: Batch) -> None:
        if self._shapes.full and self.stats.share > 0.5:
            self._forget()
        chats = batch.chats
        self._looked += len(chats)
        batch.turns = read_turns(chats.messages, self._shapes.classes, self.limits.different)
        batch.shape = self._shapes.of(batch.turns, constants_of(chats, batch.request, self._shapes.constants))
        batch.shape[~chats.messages.is_valid().to_numpy(zero_copy_only=False)] = NO_SHAPE

    def _replay_known(self, batch: Batch) -> None:
        """Give each row the first of its shape's programs whose guards agree."""
        present = distinct(batch.shape[batch.shape != NO_SHAPE])
        deepest = max((len(self._known[shape].programs) for shape in present if shape in self._known), default=0)
        for turn in range(deepest):
            candidates = {
                shape: self._known[shape].programs[turn]
                for shape in present
                if shape in self._known and len(self._known[shape].programs) > turn
            }
            self._try(batch, candidates)

    def _try(self, batch: Batch, candidates: Mapping[int, int]) -> None:
        """Try one program for each shape on its rows that have none."""
        of_shape = np.full(int(batch.shape.max(initial=0)) + 2, -1, np.int64)
        for shape, number in candidates.items():
            of_shape[shape] = number
        rows = np.flatnonzero((batch.program < 0) & (of_shape[batch.shape] >= 0))
        programs = of_shape[batch.shape[rows]]
        good = self._tables.accepts(rows, programs, batch.turns)
        batch.program[rows[good]] = programs[good]
        self._taken += int(good.sum())
        taken = np.bincount(batch.shape[rows[good]], minlength=len(of_shape))
        for shape in candidates:
            self._known[shape].taken += int(taken[shape])
        for number in set(candidates.values()):
            if self._checked[number] < CHECKS and not self.off:
                self._check(batch, number)

    def _check(self, batch: Batch, number: int) -> None:
        """Compare the first rows of a program with plain Jinja; a difference ends tracing for good."""
        rows = np.flatnonzero(batch.program == number)[:CHECKS]
        if not len(rows):
            return
        failures: list[RenderError] = []
        wanted = self.fallback(batch.take(rows), batch.request, failures)
        programs = np.full(len(rows), number)
        pieces = self._tables.assemble(rows, programs, batch.turns, pa.array([], pa.string()))
        found = self._rendered(batch, programs, pieces)
        alike = wanted.text.equals(found.text) and (found.spans is None or found.spans.equals(wanted.spans))
        if failures or not alike:
            self.off = "a replayed text differed from plain Jinja's, so nothing is replayed any more"
            batch.program[:] = -1
        self._checked[number] += len(rows)

    def _trace_new(self, batch: Batch) -> None:
        """Trace shapes that have enough rows without a program, until none is left that would gain."""
        fresh = True
        while not self.off:
            rows = np.flatnonzero((batch.program < 0) & (batch.shape != NO_SHAPE))
            if not len(rows):
                return
            counts = np.bincount(batch.shape[rows])
            _, first = dense(batch.shape[rows], len(counts))
            traced = {
                row: self._trace_one(batch, row, int(counts[batch.shape[row]]), fresh) for row in rows[first].tolist()
            }
            found = {row: number for row, number in traced.items() if number is not None}
            if not found:
                return
            self._try(batch, {int(batch.shape[row]): number for row, number in found.items()})
            for row in found:
                if batch.program[row] < 0:
                    self._known[int(batch.shape[row])].closed = "a guard does not hold for the row it came from"
            fresh = False

    def _trace_one(self, batch: Batch, row: int, count: int, fresh: bool) -> int | None:
        """The number of a new program for the shape of `row`, which `count` rows wait for; None if there is none."""
        shape = self._known.setdefault(int(batch.shape[row]), _Shape())
        shape.seen += count if fresh else 0
        if shape.closed or not (self._strict or self._pays(shape, count)):
            return None
        self.stats.traces += 1
        found = self._traced(batch, row)
        if isinstance(found, Untraceable):
            shape.closed = found.reason
            self.off = found.reason if found.whole else ""
            return None
        shape.programs.append(self._tables.add(found))
        return shape.programs[-1]

    def _pays(self, shape: _Shape, count: int) -> bool:
        """Whether a trace may be expected to earn what it costs."""
        limits = self.limits
        earned = limits.free + (self._taken + count) // limits.rows_per_trace
        if len(shape.programs) >= limits.programs:
            shape.closed = "its shape has too many paths through the template"
        needed = min(max(limits.rows, self._looked // limits.rare), 8 * limits.rows)
        enough = shape.seen >= needed and count >= min(limits.rows, CHECKS)
        fruitful = shape.taken >= limits.rows * len(shape.programs)
        return enough and fruitful and not shape.closed and self.stats.traces < min(earned, limits.traces)

    def _traced(self, batch: Batch, row: int, deep: bool = False) -> Program | Untraceable:
        chats = batch.take([row])
        try:
            messages = json_columns.decode_conversations(chats.messages)[0]
            tools, documents, overrides = (None if column is None else _value(column) for column in chats.others)
            variables = {**self.template.special_tokens, **self.options.variables, **(overrides or {})}
            source = self.template.select(tools)
        except (ValueError, TypeError) as error:
            return Untraceable(f"it raises {type(error).__name__}")
        prompt = bool(batch.request.generation_prompt)
        inputs = Inputs(messages or [], tools, documents, prompt, variables, self.options.date)
        found = self._tracer(source, inputs, deep=deep)
        if isinstance(found, Program) and self.options.bos == "strip":
            found = without_bos(found, variables.get("bos_token"))
        if isinstance(found, Program) and not deep and not is_columnar(found):
            return Untraceable(SEVERAL)
        if isinstance(found, Program) and batch.request.spans and found.spans is None:
            return Untraceable("a generation block lies inside another block")
        return found

    def _replay_rows(self, batch: Batch) -> None:
        """Replay one by one the rows that have tool calls or parts, or an expression over several texts."""
        several = [number for number, shape in self._known.items() if shape.closed == SEVERAL]
        apart = (batch.turns.lengths > 0) & (batch.turns.lengths <= MAX_TURNS) & (batch.shape == NO_SHAPE)
        rows = np.flatnonzero((batch.program < 0) & (apart | np.isin(batch.shape, several)))
        if self.off or self._rows.off or not len(rows):
            return
        self._rows.expect(batch.turns.of(row).tobytes() for row in rows[:TRIAL].tolist())
        for some in np.split(rows, range(TRIAL, len(rows), TRIAL)):
            if self.off or self._rows.off:
                batch.why.update(dict.fromkeys(some.tolist(), self._rows.off))
            else:
                self._replay_some(batch, some)

    def _replay_some(self, batch: Batch, rows: Numbers) -> None:
        chats = batch.take(rows)
        columns = [[None] * len(rows) if column is None else column.to_pylist() for column in chats.others]
        keys = zip(*columns, strict=True)
        for row, turns, key in zip(rows.tolist(), json_columns.decode_conversations(chats.messages), keys, strict=True):
            if turns and not self.off:
                self._replay_row(batch, row, turns, (batch.request, *map(str, key)))

    def _replay_row(self, batch: Batch, row: int, turns: list[dict[str, Any]], key: Hashable) -> None:
        if self._rows.off:
            batch.why[row] = self._rows.off
            return
        found = self._rows.render(
            key,
            turns,
            row,
            lambda one: self._traced(batch, one, deep=True),
            lambda one, text: self._confirm(batch, one, text),
        )
        if isinstance(found, tuple):
            batch.texts[row] = found
        else:
            batch.why[row] = found

    def _confirm(self, batch: Batch, row: int, found: Text) -> bool:
        """Whether plain Jinja renders a row so."""
        failures: list[RenderError] = []
        wanted = self.fallback(batch.take([row]), batch.request, failures)
        text, spans = found
        alike = wanted.text[0].as_py() == text and (wanted.spans is None or wanted.spans.equals(spans_of([spans])))
        if not alike:
            self.off = "a replayed text differed from plain Jinja's, so nothing is replayed any more"
            batch.texts.clear()
            batch.program[:] = -1
        return alike

    def _write(self, batch: Batch, failures: Failures) -> Replayed:
        known = np.flatnonzero(batch.program < 0)
        left = np.array([row for row in known.tolist() if row not in batch.texts], np.int64)
        self._count(batch, left)
        programs = np.where(batch.program < 0, KNOWN, batch.program)
        if len(left) == len(programs):
            return Replayed(self._plain(batch, None, failures), programs, None, batch.turns, self._tables.programs)
        plain = self._plain(batch, left, failures) if len(left) else None
        given = together(plain, left, batch) if len(known) else None
        texts = pa.array([], pa.string()) if given is None else given.text
        pieces = self._tables.assemble(np.arange(len(programs)), programs, batch.turns, texts)
        rendered = self._rendered(batch, programs, pieces)
        if given is not None:
            rendered = merged(rendered, given, known, batch.request.spans)
        if has_only_text(batch.chats):
            rendered = replace(rendered, whole=self._tables.whole(programs))
        return Replayed(rendered, programs, pieces, batch.turns, self._tables.programs)

    def _rendered(self, batch: Batch, programs: Numbers, pieces: Pieces) -> Rendered:
        return Rendered(pieces.rows(), self._spans(programs, pieces) if batch.request.spans else None)

    def _spans(self, programs: Numbers, pieces: Pieces) -> pa.ListArray:
        return lists_of(*self._tables.spans(programs, pieces), len(programs))

    def _plain(self, batch: Batch, rows: Numbers | None, failures: Failures) -> Rendered:
        """Plain Jinja's texts of some rows (None: of all); errors name the row of the batch."""
        chats = batch.chats if rows is None else batch.take(rows)
        collected: list[RenderError] = []
        if self._strict:
            self._refuse(batch, chats, rows)
        try:
            found = self.fallback(chats, batch.request, None if failures is None else collected)
        except RenderError as error:
            _relocate(error, rows)
            raise
        for failure in collected:
            _relocate(failure, rows)
        if failures is not None:
            failures += collected
        return found

    def _refuse(self, batch: Batch, chats: ConversationBatch, rows: Numbers | None) -> None:
        """Raise for the first row left that plain Jinja would render; one that it would not render is its to raise."""
        failed: list[RenderError] = []
        texts = self.fallback(chats, batch.request, failed).text
        for place in np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False)).tolist():
            row = place if rows is None else int(rows[place])
            message = f"`--engine trace` cannot render row {row}: {self._why(batch, row)}"
            raise TemplateError(message, hint="leave `--engine` out, and plain Jinja renders such rows", code="trace")

    def _count(self, batch: Batch, left: Numbers) -> None:
        self.stats.jinja += len(left)
        self.stats.python += len(batch.texts)
        self.stats.replayed += len(batch.program) - len(left) - len(batch.texts)
        self.stats.reasons.update(batch.why.values())
        others = left[[row not in batch.why for row in left.tolist()]]
        _, first, counts = np.unique(batch.shape[others], return_index=True, return_counts=True)
        for row, count in zip(others[first].tolist(), counts.tolist(), strict=True):
            self.stats.reasons[self._why(batch, row)] += count

    def _why(self, batch: Batch, row: int) -> str:
        """Why a row is not replayed."""
        shape = int(batch.shape[row])
        if row in batch.why or self.off:
            return self.off or batch.why[row]
        if batch.turns is NO_TURNS:
            return RARE
        if shape == NO_SHAPE:
            return self._rows.off or "an empty or very long conversation"
        known = self._known.get(shape)
        return known.closed if known and known.closed else "too few rows of its shape"


def _value(column: pa.Array) -> Any:
    values = [None if value is json_columns._ABSENT else value for value in json_columns.decode_values(column)]
    return values[0]


def without_bos(program: Program, bos: Any) -> Program | Untraceable:
    """The program whose text lacks one `bos` at its start."""
    if not bos or not isinstance(bos, str) or not program.pieces:
        return program
    first = program.pieces[0]
    if not isinstance(first, str) or (len(first) < len(bos) and bos.startswith(first)):
        return Untraceable("`bos_token` may come from a text")
    if not first.startswith(bos):
        return program
    if any(start == 0 for start, _ in program.spans or ()):
        return Untraceable("`bos_token` is inside a generation block")
    return replace(program, pieces=(first[len(bos) :], *program.pieces[1:]))


def _relocate(error: RenderError, rows: Numbers | None) -> None:
    if rows is not None and error.at.row is not None:
        error.at = replace(error.at, row=int(rows[error.at.row]))
