"""The traced engine: conversations of the same shape share a program, which runs over whole Arrow columns.

    shapes    group the rows of a batch by shape (`shapes`)
    replay    run the known programs of each shape on the rows whose guards hold (`program_cache`, `tables`)
    trace     trace shapes with enough rows left over (`tracer`), and compare the new programs with Jinja
    by row    replay rows with tool calls or content parts one by one (`row_replay`)
    the rest  is rendered by Jinja, which alone defines texts and errors

A program is trusted only after Jinja has rendered two of its rows alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ... import json_columns
from ...errors import Location, RenderError, TemplateError
from ...escaped_texts import remember_lines
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, Renderer, RenderRequest, check_text_size
from ..jinja.errors import render_error
from ..options import RenderOptions
from ..template.chat_template import ChatTemplate
from .batch import Batch, Replayed, lists_of, merged, spans_of, together, with_nulls
from .escaped_lines import escaped_lines, is_known
from .kernels import Int64Array, distinct
from .program import Program, Untraceable
from .program_cache import CONFIRMATIONS, ProgramCache, SearchPause, TraceLimits
from .row_replay import DIFFERS, RARE, TRIAL, ReplayedText, RowReplay
from .shapes import MAX_TURNS, NO_SHAPE, NO_TURNS, dense
from .slots import has_only_text
from .tables import KNOWN, NO_TEXTS, Pieces, is_columnar
from .tracer import REFUSALS, Inputs, trace

Tracer = Callable[..., Program | Untraceable]
LIMITS = TraceLimits()
SEVERAL = "an expression reads several texts"


class Stats(Struct):
    """Counts: rows by way of rendering, rows by reason for Jinja, and traces."""

    replayed: int = 0
    python: int = 0
    """Rows that were replayed one by one."""
    jinja: int = 0
    traces: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return self.replayed + self.python + self.jinja

    @property
    def share(self) -> float:
        """The share of rows that did not need Jinja; 1 without rows."""
        return (self.replayed + self.python) / self.rows if self.rows else 1.0


class TracedRenderer:
    """Render a column of conversations with the output of `fallback`, replaying what can be replayed.

    Programs are kept from call to call. With `--engine trace`, a row that cannot be replayed raises TemplateError with
    the reason, or the error that Jinja raises for it.
    """

    def __init__(
        self,
        template: ChatTemplate,
        options: RenderOptions,
        fallback: Renderer,
        *,
        tracer: Tracer = trace,
        limits: TraceLimits = LIMITS,
    ) -> None:
        self.template, self.options, self.fallback = template, options, fallback
        self.stats = Stats()
        self.stopped = "the end of the final message is cut by Jinja" if options.continue_final else ""
        """The reason why nothing is replayed any more; empty as long as rows are."""
        self._tracer, self._strict = tracer, options.engine == "trace"
        self._cache, self._pause = ProgramCache(limits), SearchPause()
        self._by_row = self._new_row_replay()

    def _new_row_replay(self) -> RowReplay:
        limits = self._cache.limits
        return RowReplay(1 if self._strict else limits.rows, limits.programs)

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        return self.replay(chats, request, failures).rendered

    def replay(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Replayed:
        """Return the rendered column, as a call does, with the program and the pieces of each row."""
        return self._write(self._match(chats, self.options.resolved(request)), failures)

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs that run over columns, in the order in which they were traced."""
        return tuple(self._cache.tables.programs[1:])

    def _match(self, chats: ConversationBatch, request: RenderRequest) -> Batch:
        """Return the batch with a program or a text for each row that can be replayed."""
        nothing = np.full(len(chats), NO_SHAPE, np.int64)
        batch = Batch(chats, request, NO_TURNS, nothing, nothing.copy())
        if not self.stopped and (self._strict or self._pause.is_over(len(chats))):
            if self._cache.shapes.full and self.stats.share > 0.5:
                self._cache.clear()
                self._by_row = self._new_row_replay()
            batch.turns, batch.shape = self._cache.read(chats, request)
            for candidates in self._cache.candidates(batch.shape[batch.shape != NO_SHAPE]):
                self._try(batch, candidates)
            self._trace_new(batch)
            self._replay_rows(batch)
            self._pause.record(len(chats), int((batch.program >= 0).sum()) + len(batch.texts))
        return batch

    def _try(self, batch: Batch, candidates: Mapping[int, int]) -> None:
        """Try one program per shape on the rows of the shape that have none; give it those whose guards hold."""
        of_shape = np.full(int(batch.shape.max(initial=0)) + 2, -1, np.int64)
        for shape, number in candidates.items():
            of_shape[shape] = number
        rows = np.flatnonzero((batch.program < 0) & (of_shape[batch.shape] >= 0))
        programs = of_shape[batch.shape[rows]]
        good = self._cache.tables.accepts(rows, programs, batch.turns)
        batch.program[rows[good]] = programs[good]
        self._cache.record([*candidates], np.bincount(batch.shape[rows[good]], minlength=len(of_shape)))
        for number in set(candidates.values()):
            if not self._cache.is_confirmed(number) and not self.stopped:
                self._check(batch, number)

    def _check(self, batch: Batch, number: int) -> None:
        """Compare the first rows of a program with Jinja; a difference ends all replaying."""
        rows = np.flatnonzero(batch.program == number)[:CONFIRMATIONS]
        if not len(rows):
            return
        failures: list[RenderError] = []
        wanted = self.fallback(batch.take(rows), batch.request, failures)
        programs = np.full(len(rows), number)
        pieces = self._cache.tables.assemble(rows, programs, batch.turns, NO_TEXTS)
        found = self._rendered(batch, programs, pieces)
        alike = wanted.text.equals(found.text) and (found.spans is None or found.spans.equals(wanted.spans))
        if refusal := self._cache.tables.programs[number].refusal:
            expected = [self._failure(row, refusal, text) for row, text in enumerate(found.text.to_pylist())]
            alike, failures = _details(expected) == _details(failures), []
        if failures or not alike:
            self.stopped = DIFFERS
            batch.program[:] = -1
        self._cache.confirm(number, len(rows))

    def _trace_new(self, batch: Batch) -> None:
        """Trace shapes that have enough rows without a program, until no shape would gain from a trace."""
        first_pass = True
        while not self.stopped:
            rows = np.flatnonzero((batch.program < 0) & (batch.shape != NO_SHAPE))
            if not len(rows):
                return
            counts = np.bincount(batch.shape[rows])
            _, first = dense(batch.shape[rows], len(counts))
            found: dict[int, int] = {}
            for row in rows[first].tolist():
                number = self._trace_one(batch, row, int(counts[batch.shape[row]]), first_pass)
                if number is not None:
                    found[row] = number
            if not found:
                return
            self._try(batch, {int(batch.shape[row]): number for row, number in found.items()})
            for row in found:
                if batch.program[row] < 0:
                    self._cache.of(int(batch.shape[row])).closed = "a guard does not hold for the row it came from"
            first_pass = False

    def _trace_one(self, batch: Batch, row: int, count: int, first_pass: bool) -> int | None:
        """Return the number of a new program for the shape of `row`, which `count` rows wait for; None for no trace."""
        shape = int(batch.shape[row])
        known = self._cache.of(shape)
        known.seen += count if first_pass else 0
        if known.closed or not (self._strict or self._cache.pays(known, count)):
            return None
        self._cache.traces += 1
        self.stats.traces += 1
        found = self._traced(batch, row)
        if isinstance(found, Untraceable):
            known.closed = found.reason
            self.stopped = found.reason if found.every_row else ""
            return None
        return self._cache.add(shape, found)

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
        if isinstance(found, Program) and found.refusal and deep:
            return Untraceable(f"it raises {found.refusal}")
        if isinstance(found, Program) and self.options.bos == "strip" and not found.refusal:
            found = program_without_bos(found, variables.get("bos_token"))
        if isinstance(found, Program) and not deep and not is_columnar(found):
            return Untraceable(SEVERAL)
        if isinstance(found, Program) and batch.request.spans and found.spans is None:
            return Untraceable("a generation block lies inside another block")
        return found

    def _replay_rows(self, batch: Batch) -> None:
        """Replay, one by one, rows with tool calls or content parts, and rows whose expressions read several texts."""
        several = self._cache.shapes_closed_for(SEVERAL)
        nested = (batch.turns.lengths > 0) & (batch.turns.lengths <= MAX_TURNS) & (batch.shape == NO_SHAPE)
        rows = np.flatnonzero((batch.program < 0) & (nested | np.isin(batch.shape, several)))
        if self.stopped or self._by_row.stopped or not len(rows):
            return
        self._by_row.expect(batch.turns.of(row).tobytes() for row in rows[:TRIAL].tolist())
        for some in np.split(rows, range(TRIAL, len(rows), TRIAL)):
            check_text_size(sum(len(text) for text, _ in batch.texts.values()), len(batch.program))
            if self.stopped or self._by_row.stopped:
                batch.why.update(dict.fromkeys(some.tolist(), self._by_row.stopped))
            else:
                self._replay_some(batch, some)

    def _replay_some(self, batch: Batch, rows: Int64Array) -> None:
        chats = batch.take(rows)
        columns = [[None] * len(rows) if column is None else column.to_pylist() for column in chats.others]
        keys = zip(*columns, strict=True)
        for row, turns, key in zip(rows.tolist(), json_columns.decode_conversations(chats.messages), keys, strict=True):
            if turns and not self.stopped:
                self._replay_row(batch, row, turns, (batch.request, *map(str, key)))

    def _replay_row(self, batch: Batch, row: int, turns: list[dict[str, Any]], key: Hashable) -> None:
        if self._by_row.stopped:
            batch.why[row] = self._by_row.stopped
            return
        found = self._by_row.render(
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

    def _confirm(self, batch: Batch, row: int, found: ReplayedText) -> bool:
        """Return whether Jinja renders the row alike; a difference ends all replaying."""
        failures: list[RenderError] = []
        wanted = self.fallback(batch.take([row]), batch.request, failures)
        text, spans = found
        alike = wanted.text[0].as_py() == text and (wanted.spans is None or wanted.spans.equals(spans_of([spans])))
        if not alike:
            self.stopped = DIFFERS
            batch.texts.clear()
            batch.program[:] = -1
        return alike

    def _write(self, batch: Batch, failures: Failures) -> Replayed:
        """Assemble the texts of all rows; Jinja renders those without a program, and raises the first error."""
        tables = self._cache.tables
        replayed = batch.program[batch.program >= 0]
        if len(replayed):
            check_text_size(tables.most_bytes(replayed, batch.chats.messages.nbytes), len(batch.program))
        if failures is None:
            batch.program[(batch.program >= 0) & tables.refuses(batch.program)] = -1
        no_program = np.flatnonzero(batch.program < 0)
        left = np.array([row for row in no_program.tolist() if row not in batch.texts], np.int64)
        self._count(batch, left)
        programs = np.where(batch.program < 0, KNOWN, batch.program)
        if len(left) == len(programs):
            return Replayed(self._jinja(batch, None, failures), programs, None, batch.turns, tables.programs)
        jinja = self._jinja(batch, left, failures) if len(left) else None
        known = together(jinja, left, batch) if len(no_program) else None
        texts = NO_TEXTS if known is None else known.text
        rows = np.flatnonzero(~tables.refuses(programs))
        pieces = tables.assemble(rows, programs[rows], batch.turns, texts)
        if any(is_known(column.source) for column in batch.turns.columns.values()):
            remember_lines(pieces.rows(), partial(escaped_lines, pieces, tables.literals))
        refused = len(rows) < len(programs)
        pieces = pieces.spread(rows, len(programs)) if refused else pieces
        rendered = self._rendered(batch, np.where(tables.refuses(programs), KNOWN, programs), pieces)
        if known is not None:
            rendered = merged(rendered, known, no_program, batch.request.spans)
        if refused:
            assert failures is not None
            rendered = self._without_refused(batch, rendered, programs, failures)
        printed = tables.all_printed(programs) if has_only_text(batch.chats) else None
        groups, paths = tables.groups(programs), tables.paths(programs)
        rendered = replace(rendered, all_printed=printed, groups=groups, paths=paths)
        return Replayed(rendered, programs, pieces, batch.turns, tables.programs)

    def _without_refused(
        self, batch: Batch, rendered: Rendered, programs: Int64Array, failures: list[RenderError]
    ) -> Rendered:
        """Return the column with nulls for rows that the template refuses, and append their errors to `failures`."""
        refused = self._cache.tables.refuses(programs)
        rows = np.flatnonzero(refused)
        texts = self._cache.tables.assemble(rows, programs[rows], batch.turns, NO_TEXTS).rows().dictionary_encode()
        kinds = programs[rows] * len(texts.dictionary) + texts.indices.to_numpy()
        alike = dict[tuple[str, str], list[int]]()
        for kind in distinct(kinds):
            program, text = divmod(kind, len(texts.dictionary))
            key = self._cache.tables.programs[program].refusal, texts.dictionary[text].as_py()
            alike.setdefault(key, []).extend(rows[kinds == kind].tolist())
        failures += [self._failure(min(some), *key).of_rows(sorted(some)) for key, some in alike.items()]
        kept = json_columns.integers(np.arange(len(programs)), refused)
        spans = None if rendered.spans is None else rendered.spans.take(kept)
        return Rendered(with_nulls(rendered.text, refused), spans)

    def _failure(self, row: int, refusal: str, message: str) -> RenderError:
        cause = REFUSALS[refusal](message)
        failure = render_error(cause, self.template.name, row)
        failure.__cause__ = cause
        return failure

    def _rendered(self, batch: Batch, programs: Int64Array, pieces: Pieces) -> Rendered:
        return Rendered(pieces.rows(), self._spans(programs, pieces) if batch.request.spans else None)

    def _spans(self, programs: Int64Array, pieces: Pieces) -> pa.ListArray:
        return lists_of(*self._cache.tables.spans(programs, pieces), len(programs))

    def _jinja(self, batch: Batch, rows: Int64Array | None, failures: Failures) -> Rendered:
        """Render some rows with Jinja (None: all of them); errors name the row of the batch."""
        chats = batch.chats if rows is None else batch.take(rows)
        collected: list[RenderError] = []
        if self._strict:
            self._refuse(batch, chats, rows)
        try:
            found = self.fallback(chats, batch.request, None if failures is None else collected)
        except RenderError as error:
            error.locate(rows=rows)
            raise
        for failure in collected:
            failure.locate(rows=rows)
        if failures is not None:
            failures += collected
        return found

    def _refuse(self, batch: Batch, chats: ConversationBatch, rows: Int64Array | None) -> None:
        """Raise TemplateError for the first row that Jinja would render; errors of Jinja are left to it."""
        failed: list[RenderError] = []
        texts = self.fallback(chats, batch.request, failed).text
        for index in np.flatnonzero(texts.is_valid()).tolist():
            row = index if rows is None else int(rows[index])
            message = f"`--engine trace` cannot render row {row}: {self._why(batch, row)}"
            raise TemplateError(message, hint="without `--engine`, Jinja renders such rows", code="trace")

    def _count(self, batch: Batch, left: Int64Array) -> None:
        self.stats.jinja += len(left)
        self.stats.python += len(batch.texts)
        self.stats.replayed += len(batch.program) - len(left) - len(batch.texts)
        self.stats.reasons.update(batch.why.values())
        others = left[[row not in batch.why for row in left.tolist()]]
        _, first, counts = np.unique(batch.shape[others], return_index=True, return_counts=True)
        for row, count in zip(others[first].tolist(), counts.tolist(), strict=True):
            self.stats.reasons[self._why(batch, row)] += count

    def _why(self, batch: Batch, row: int) -> str:
        """Return why a row was not replayed."""
        shape = int(batch.shape[row])
        if row in batch.why or self.stopped:
            return self.stopped or batch.why[row]
        if batch.turns is NO_TURNS:
            return RARE
        if shape == NO_SHAPE:
            return self._by_row.stopped or "an empty or very long conversation"
        return self._cache.why_closed(shape) or "too few rows of its shape"


def _details(failures: list[RenderError]) -> list[tuple[str, str, Location, type[Any]]]:
    return [(each.message, each.code, each.at, type(each.__cause__)) for each in failures]


def _value(column: pa.Array) -> Any:
    values = [None if value is json_columns.ABSENT else value for value in json_columns.decode_values(column)]
    return values[0]


def program_without_bos(program: Program, bos: Any) -> Program | Untraceable:
    """Return the program without one `bos` at the start of its text."""
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
