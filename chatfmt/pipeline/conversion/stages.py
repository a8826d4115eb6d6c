"""The stages of a job on one batch after another: mapping, dialect, transforms, checks, render, view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ... import checks, dialects, mapping, render, tokens, transforms, writers
from ...errors import ChatfmtError, Location, RowError, UsageError, located
from ...json_columns import decode_objects, dumps, to_plain
from ...render.jinja.environment import expression, text_expression
from ...render.masks.masker import WHOLE_TURNS, Masker
from ...render.masks.prompt_boundary import split_texts
from ...render.masks.renderer import MaskedRenderer
from ...render.safety.content_loss import Loss, LossGuard
from ...render.safety.control_tokens import Scanner, find_control_tokens, find_token_edges
from ...render.single import TemplateRenderer
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, Renderer, RenderRequest
from ...schema import CONVERSATIONS, ROW
from ...views import VIEWS
from ...views.batch import Fields, RenderableBatch
from .job import Job
from .kept_columns import added_columns
from .max_tokens import within
from .output_schema import cast_to_schema
from .row_counts import RowCounts

OnReject = Callable[[RowError, bytes | None], None]
"""Called with why a row was left out and its raw text."""
OnFinding = Callable[[checks.Finding, Location], None]
"""Called with what a check found and where."""


class Stage(Struct, frozen=True):
    """A named step on a batch; its errors count rows in the batch it was given, whose row numbers are in `rows`."""

    rows: str
    run: Callable[[pa.RecordBatch, RowCounts], pa.RecordBatch]


class Conversion:
    """A job with its expressions and template compiled, its programs and caches kept between batches."""

    def __init__(self, job: Job, on_finding: OnFinding | None = None) -> None:
        self.job, self._on_finding, self._file = job, on_finding, ""
        self._engine: render.Renderer | None = None
        self._renderer: Renderer | None = None
        self._scanner: Scanner | None = None
        self._cutter: Boundaries | None = None
        self._limits = checks.Limits()
        if job.template is not None:
            self._prepare(job, job.template)
        self._tokenizer = tokens.load(job.tokenizer) if job.tokenizer is not None else None
        self._reported: Counter[str] = Counter()
        self._dialect = dialects.DIALECTS[job.dialect]
        self._mapper, self._added = _mapper(job), added_columns(job)
        self._stages = [
            Stage(ROW, self._map),
            Stage(ROW, self._to_conversations),
            Stage("row", self._choose),
            Stage("row", self._transform),
            Stage("row", self._check),
            Stage("row", self._control_tokens),
            Stage("row", self._length),
            Stage("row", self._view),
        ]

    def _prepare(self, job: Job, template: render.ChatTemplate) -> None:
        """Prepare the renderer, the loss guard and the scanner; an untrusted template runs in the sandbox."""
        self._engine = render.compile(template, job.options, job.isolation)
        voice = TemplateRenderer(template, job.options, render.sessions_of(template, job.isolation, self._engine))
        self._renderer = guarded(self._engine, job, voice)
        self._scanner = Scanner(find_control_tokens(template), find_token_edges(template))
        self._cutter = Boundaries(voice)
        self._limits = checks.Limits(encodes_twice=cache(partial(_encodes_twice, voice)))

    def convert(
        self, batch: pa.RecordBatch, file: str, counts: RowCounts, on_reject: OnReject | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Output batches for a source batch of `file`, in order of rows; `counts` are kept.

        Without `on_reject` the first bad row raises its RowError, located. With it, bad rows are handed over with
        their raw text and the rest is converted as if they had never been there.
        """
        while True:
            trial = RowCounts(read=len(batch))
            try:
                made = self._run(batch, file, trial)
            except RowError as error:
                if on_reject is None:
                    raise
                place = _place_of(error, batch)
                if place:
                    yield from self.convert(batch.slice(0, place), file, counts, on_reject)
                counts.reject(error.code)
                on_reject(error, raw_row(batch, place))
                batch = batch.slice(place + 1)
                continue
            counts.add(trial)
            if len(made):
                yield made
            return

    def conversations(self, batch: pa.RecordBatch, file: str) -> pa.RecordBatch:
        """The CONVERSATIONS batch of a source batch, transformed and checked but not rendered; raises as `convert`."""
        return self._staged(batch, file, RowCounts(), self._stages[:4])

    def _run(self, batch: pa.RecordBatch, file: str, counts: RowCounts) -> pa.RecordBatch:
        made = self._staged(batch, file, counts, self._stages)
        counts.written += len(made)
        return made

    def _staged(self, batch: pa.RecordBatch, file: str, counts: RowCounts, stages: Sequence[Stage]) -> pa.RecordBatch:
        self._file = file
        for stage in stages:
            if not len(batch):
                return batch
            with located(file, batch.column(stage.rows)):
                batch = stage.run(batch, counts)
        return batch

    def report(self, counts: RowCounts) -> None:
        """Add to the counts how the rows since the last report were rendered, and what the guard let go."""
        if isinstance(self._engine, render.TracedRenderer):
            stats = self._engine.stats
            now = Counter({"replayed": stats.replayed + stats.python, "jinja": stats.jinja})
            now.update({f"jinja: {reason}": count for reason, count in stats.reasons.items()})
            counts.engine.update(now - self._reported)
            self._reported = now
        if isinstance(self._renderer, GuardedRenderer):
            counts.left_out.update(dict.fromkeys(self._renderer.guard.accepted, 1))
        if self._engine is not None and (level := render.level_of(self._engine)):
            counts.engine[f"isolation: {level}"] += counts.written

    def _map(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self._mapper is None:
            return batch
        mapped = self._mapper(batch)
        dropped = mapped.counts["filtered"] + mapped.counts["unfilled"]
        counts.filtered += dropped
        counts.step(len(batch) - dropped, len(mapped.batch))
        return mapped.batch

    def _to_conversations(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        conversations = self._dialect.convert(batch, self.job.columns)
        conversations = conversations.drop_columns([name for name in conversations.schema.names if name in self._added])
        counts.step(len(batch), len(conversations))
        return conversations

    def _choose(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self.job.fraction == 1 and not self.job.tagged:
            return batch
        hashes = mapping.row_hash(batch)
        if self.job.fraction < 1:
            kept = mapping.fraction_mask(hashes, self.job.fraction, seed=self.job.seed)
            hashes = list(compress(hashes, kept.to_pylist()))
            counts.filtered += len(batch) - len(hashes)
            batch = batch.filter(kept)
        return tagged(batch, hashes) if self.job.tagged else batch

    def _transform(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        changed, changes = transforms.apply(batch, self.job.transforms)
        counts.changes.update(changes)
        counts.step(len(batch), len(changed))
        return changed

    def _check(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        findings = checks.run(batch, limits=self._limits)
        for finding in checks.refused(findings, strict=self.job.strict, named=self.job.fail_on):
            raise checks.to_error(finding)
        counts.findings.update({code: len(rows) for code, rows in rows_by_code(findings).items()})
        if self._on_finding is not None:
            for finding in findings:
                row = int(batch.column("row")[finding.row].as_py())
                self._on_finding(finding, Location(self._file, row, finding.message))
        return batch

    def _control_tokens(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self._scanner is None:
            return batch
        outcome = self._scanner.apply(batch, self.job.control_tokens)
        for error in outcome.rejected:
            raise error
        if self.job.control_tokens == "keep":
            counts.findings.update(outcome.findings)
        elif outcome.rows:
            counts.changes[f"control_tokens.{self.job.control_tokens}"] += len(outcome.rows)
            counts.filtered += len(batch) - len(outcome.batch)
        return outcome.batch

    def _length(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self._tokenizer is None or self.job.max_tokens is None:
            return batch
        source = RenderableBatch(batch, self._renderer)
        made = within(source, self._tokenizer, self.job.max_tokens, self.job.over_length, counts)
        counts.added += max(0, len(made) - len(batch))
        return made

    def _view(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        source = RenderableBatch(batch, self._renderer, self.job.mask is not None, self._cutter)
        fields = VIEWS[self.job.view].fields(source) if self.job.view else {}
        if self._tokenizer is not None and "text" in fields:
            fields = self._counted(fields)
        kept = {name: batch.column(name) for name in batch.schema.names if name not in CONVERSATIONS}
        made = output_batch(fields, kept, len(batch))
        counts.step(len(batch), len(made))
        return made if self.job.schema is None else cast_to_schema(made, self.job.schema)

    def _counted(self, fields: Fields) -> Fields:
        """The columns with `num_tokens`, or with ids, labels and masks in the place of the text."""
        assert self._tokenizer is not None
        if self.job.view and VIEWS[self.job.view].is_tokenized:
            tagged = self.job.template is not None and self.job.template.has_generation_tags
            return self._tokenizer.columns(fields["text"], fields["assistant_spans"], as_transformers=tagged)
        return {**fields, "num_tokens": self._tokenizer.count(fields["text"])}


class GuardedRenderer(Struct, frozen=True):
    """Renders as `inner` does, and fails where a text of a conversation does not reach the output."""

    inner: Renderer
    guard: LossGuard

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        try:
            rendered = self.inner(chats, request, failures)
        except ChatfmtError:  # a text that is lost ends the run, whatever else is wrong with a row
            self._raise(self.guard.check(chats))
            raise
        self._raise(self.guard.check(chats, rendered.whole))
        return rendered

    def _raise(self, loss: Loss | None) -> None:
        if loss is not None:
            voice = self.guard.renderer
            raise loss.error(voice.template.name, fitted=voice.options.fitted)


class Boundaries:
    """Finds where answers begin in rendered text, by the marks of `prompt_boundary`; see `views.batch.AnswerFinder`."""

    def __init__(self, voice: TemplateRenderer) -> None:
        self._masker = Masker(voice, WHOLE_TURNS)

    def __call__(self, chats: ConversationBatch, first: Sequence[int]) -> list[int]:
        return [split.boundary if split is not None else 0 for split in split_texts(self._masker, chats, first)]


def guarded(engine: render.Renderer, job: Job, voice: TemplateRenderer) -> Renderer:
    """The engine with the masks and the content-loss guard that the job asks for."""
    inner = engine if job.mask is None else MaskedRenderer(engine, voice, job.mask)
    if "all" in job.allow_loss or job.options.continue_final:
        return inner
    return GuardedRenderer(inner, LossGuard(voice, job.allow_loss))


def tagged(batch: pa.RecordBatch, hashes: Sequence[bytes]) -> pa.RecordBatch:
    """The batch with one column more, which goes the way of kept ones: the hash and the place of each conversation."""
    if writers.TAG in batch.schema.names:
        raise UsageError(f"a column is named `{writers.TAG}`, which chatfmt needs", hint="leave it out of --keep")
    table = np.empty((len(batch), 20), np.uint8)
    table[:, :16] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16)
    table[:, 16:] = np.arange(len(batch), dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    tags = pa.Array.from_buffers(writers.TAG_TYPE, len(batch), [None, pa.py_buffer(table)])
    return batch.append_column(writers.TAG, tags)


def rows_by_code(findings: Sequence[checks.Finding]) -> dict[str, set[int]]:
    """The rows in which each code was found."""
    rows: dict[str, set[int]] = {}
    for finding in findings:
        rows.setdefault(finding.code, set()).add(finding.row)
    return rows


def _encodes_twice(voice: TemplateRenderer) -> bool:
    from ...render.inspection.probe import encodes_twice

    return encodes_twice(voice)


def _mapper(job: Job) -> mapping.Mapper | None:
    if job.mapping is None or job.mapping.is_empty:
        return None
    return mapping.mapper(job.mapping, text_expression, expression, nulls=job.nulls)


def output_batch(fields: Fields, kept: Fields, rows: int) -> pa.RecordBatch:
    """The view's own columns, then the kept ones, repeated where the view makes several rows of one."""
    made = len(next(iter(fields.values()))) if fields else rows
    if made != rows:
        again = pa.array(np.repeat(np.arange(rows), made // rows))
        kept = {name: column.take(again) for name, column in kept.items()}
    columns = {**kept, **fields}
    names = [*fields, *(name for name in kept if name not in fields)]
    return pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)


def _place_of(error: RowError, batch: pa.RecordBatch) -> int:
    """The index in the batch of the row that the error names; raises the error again if it names none of them."""
    place = -1 if error.at.row is None else place_of(error.at.row, batch)
    if place < 0:
        raise error
    return place


def place_of(row: int, batch: pa.RecordBatch) -> int:
    """The index in a source batch of the row with that number, -1 where there is none."""
    return int(pc.index(batch.column(ROW), pa.scalar(row, pa.int64())).as_py())


def raw_row(batch: pa.RecordBatch, place: int) -> bytes | None:
    """The record at `place` as JSON, for the file of rejects; None where it has what JSON cannot hold: bytes, NaN."""
    try:
        return dumps(to_plain(record_of(batch.slice(place, 1)))).encode()
    except (TypeError, ValueError):
        return None


def record_of(row: pa.RecordBatch) -> dict[str, Any]:
    """The record of a source batch of one row, its values as Python has them."""
    fields = {name: row.column(name) for name in row.schema.names if name != ROW}
    return decode_objects(fields)[0] if fields else {}
