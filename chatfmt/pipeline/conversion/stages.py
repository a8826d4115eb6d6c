"""Convert one batch after another in stages: mapping, dialect, selection, transforms, checks, tokens, view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import compress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple, replace

from ... import checks, dialects, mapping, media, render, tokens, transforms, writers
from ...errors import SKIP, ChatfmtError, Location, RowError, TemplateError, located, raise_first
from ...json_columns import integers
from ...lazy import on_call
from ...render.safety.control_tokens import Scanner, find_control_tokens, find_token_edges
from ...render.sandbox.expressions import expression, text_expression
from ...rendering import BatchTooLarge, Renderer
from ...schema import CONVERSATIONS, KEPT, MEDIA, ROW
from ...views import VIEWS
from ...views.batch import Fields, RenderableBatch, RenderMemory, whole_conversations
from ..ledger.late import account_late, awaited_truths
from ..plugins import load_plugins
from .fitting import find_remedy
from .job import Job
from .max_tokens import apply_max_tokens, drop_long
from .media_files import find_files, has_file
from .output.columns import added_columns, output_batch, without_columns, without_turn_keys
from .output.schema import cast_to_schema, fill_variables
from .rejects import OnRejects, Rejected
from .renderers import GuardedRenderer, MarkedAnswerFinder, to_renderer
from .row_counts import RowCounts
from .source_rows import FoundErrors, column_for, error_by_row, find_errors, numbered, to_json
from .staged import Stage, StagedRows
from .text_parts import join_text_parts
from .train_keys import SPAN_WEIGHTS, misled_parts, span_weights, untrained_rows

OnFinding = Callable[[checks.Finding, Location], None]
"""Called with the finding of a check and its location."""
Views = Sequence[checks.ColumnView]
"""The columns of conversations as the checks read them, made once for a batch."""

OFFERS = 16
"""How many kinds of errors a conversion tries to remedy with `--fit`; one that tries a remedy tries no further."""


class Conversion:
    """A job with its expressions and template compiled, its programs and caches kept between batches."""

    def __init__(self, job: Job, on_finding: OnFinding | None = None, *, offers: int = OFFERS) -> None:
        load_plugins()
        self.job, self._on_finding, self._file = job, on_finding, ""
        self._memory: RenderMemory | None = None
        self._checked: tuple[pa.RecordBatch, Views] | None = None
        """The conversations of the last run of the stages that no check refuses, once it came that far."""
        self._tokens: list[tuple[checks.Finding, int]] = []
        """The control tokens found in that run, with the number of the row in the source."""
        self._engine: Renderer | None = None
        self._renderer: Renderer | None = None
        self._scanner: Scanner | None = None
        self._find_answer: MarkedAnswerFinder | None = None
        self._limits = checks.Limits(
            ignored_weights=job.ignored_weights,
            unread_calls=job.unread_calls,
            written=job.view is not None and job.template is None,
        )
        self._files: dict[tuple[str | None, str], bool] = {}
        self._offers, self._most_offers = dict[tuple[str, str], str](), offers
        if job.template is not None:
            self._prepare(job, job.template)
        self._tokenizer = tokens.load(job.tokenizer, sha256=job.tokenizer_sha256) if job.tokenizer is not None else None
        self._reported: Counter[str] = Counter()
        self._ledger, self._awaited = job.ledger, awaited_truths(job.view, job.ledger)
        self.source = pa.RecordBatch.from_pydict({})
        """The source batch of the last output batch, without the rows that were rejected."""
        self.converted = self.source
        """The CONVERSATIONS batch of the last output batch, transformed but not rendered."""
        self._dialect = dialects.DIALECTS[job.dialect]
        self._mapper, self._added = _mapper(job), added_columns(job)
        self._media = media_parts(job)
        self.folder: str | None = None
        """The folder of the media files of the batches."""
        self._turns_may_go = bool(job.transforms) or job.max_tokens is not None

    @property
    def _stages(self) -> list[Stage]:
        """The steps, made for each batch: kept, they would keep this object and its sandbox process alive."""
        return [
            Stage(ROW, self._map),
            Stage(ROW, self._to_conversations),
            Stage("row", self._attach_media),
            Stage("row", self._sample),
            Stage("row", self._transform),
            Stage("row", self._check),
            Stage("row", self._control_tokens),
            Stage("row", self._limit_tokens),
            Stage("row", self._follow_media),
            Stage("row", self._check_parts),
            Stage("row", self._to_output),
        ]

    def _prepare(self, job: Job, template: render.ChatTemplate) -> None:
        """Prepare the renderer, the loss guard and the scanner; an untrusted template runs in the sandbox."""
        self._engine = render.compile(template, job.options, job.isolation)
        single = render.template_renderer(template, job.options, job.isolation, self._engine)
        self._renderer = to_renderer(self._engine, job, single)
        self._scanner = Scanner(find_control_tokens(template), find_token_edges(template))
        self._find_answer = MarkedAnswerFinder(single)
        masked = job.mask is not None and not job.weighted
        self._limits = replace(self._limits, encodes_twice=cache(partial(_encodes_twice, single)), masked=masked)

    def convert(
        self, batch: pa.RecordBatch, file: str, counts: RowCounts, on_rejects: OnRejects | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield output batches for a source batch of `file`, in order of rows, and add to `counts`.

        Without `on_rejects` the first bad row raises its RowError with its location. With it, bad rows are passed on
        with their raw text, and the rest is converted as if they had never been there.
        """
        self._memory = None if on_rejects is None else RenderMemory()
        try:
            yield from self._convert(batch, file, counts, on_rejects)
        finally:
            self._memory = None

    def _convert(
        self, batch: pa.RecordBatch, file: str, counts: RowCounts, on_rejects: OnRejects | None
    ) -> Iterator[pa.RecordBatch]:
        waiting = [StagedRows.start(batch)]
        while waiting:
            staged = waiting.pop()
            try:
                output = self._run_stages(staged, file, self._stages)
            except TemplateError as error:
                self._offer_fit(error_by_row(error, staged.source), staged.source)
                raise
            except BatchTooLarge:
                if len(staged.source) < 2:
                    raise
                half = len(staged.source) // 2
                waiting += staged.cut(half, half)
            except RowError as error:
                waiting += self._without_bad(error, staged, counts, on_rejects)
            else:
                staged.counts.findings = self._find_warnings(staged.source.column(ROW)) + staged.counts.findings
                staged.counts.written += len(output)
                counts.add(staged.counts)
                if len(output):
                    yield output

    def _without_bad(
        self, error: RowError, staged: StagedRows, counts: RowCounts, on_rejects: OnRejects | None
    ) -> list[StagedRows]:
        """Reject the bad rows of a batch and return the others, those to convert next last.

        Without `on_rejects` the error of the first bad row is raised.
        """
        source = staged.source
        if on_rejects is None:
            error = self._first_error(error, source)
            self._offer_fit(error_by_row(error, source), source)
            error.more_rows, error.others, error.hint = (), (), error.hint or SKIP
            raise error
        bad = find_errors(error, source)
        if self._on_finding is not None:  # else nobody reads the hints
            numbers = source.column(ROW).to_pylist()
            self._offer_fit({index: each for index, each in bad.items() if numbers[index] == each.at.row}, source)
        self._reject(bad, source, counts, on_rejects)
        if len(bad) == 1:  # later rows may have errors that stay unknown as long as this row is there
            (first,) = bad
            return staged.cut(first, first + 1)
        return [staged.without(bad)]

    def _first_error(self, error: RowError, source: pa.RecordBatch) -> RowError:
        """Return the error of the first bad row of a source batch: rows before that of `error` may fail later on.

        A column that the sample does not know is named first: what to do with it changes all rows.
        """
        with suppress(TemplateError, BatchTooLarge):
            while error.code != "col.late" and (first := min(error_by_row(error, source), default=0)):
                source = source.slice(0, first)
                try:
                    self._run_stages(StagedRows.start(source), self._file, self._stages)
                except RowError as earlier:
                    error = earlier
                else:
                    break
        return error

    def _offer_fit(self, errors: Mapping[int, ChatfmtError], batch: pa.RecordBatch) -> None:
        """Name `--fit` in the hints of errors, given by their rows in the batch, if it helps such a row."""
        for row, error in errors.items():
            kind = (error.code, error.message)
            if kind not in self._offers and len(self._offers) < self._most_offers:
                self._offers[kind] = find_remedy(error.code, self.job, batch.slice(row, 1), self._file, batch)
            if remedy := self._offers.get(kind):
                error.hint = f"`{remedy}` adapts the data where it can; {error.hint}"

    def _reject(self, bad: FoundErrors, batch: pa.RecordBatch, counts: RowCounts, on_rejects: OnRejects) -> None:
        """Pass on the rows of a source batch that have an error, and what checks found in them."""
        rejected = batch.take(integers(np.array([*bad])))
        if self._on_finding is not None:
            self._find_warnings(rejected.column(ROW))
        counts.reject([error.code for error in bad.values()])
        for error in {*bad.values()}:
            error.forget_frames()
        on_rejects([*map(Rejected, bad.values(), rejected.column(ROW).to_pylist(), to_json(rejected))])

    def conversations(self, batch: pa.RecordBatch, file: str) -> pa.RecordBatch:
        """Return the CONVERSATIONS batch of a source batch, transformed but not rendered; raises as `convert` does."""
        return self._run_stages(StagedRows.start(batch), file, self._stages[:5])

    def _find_warnings(self, rows: pa.Array) -> Counter[str]:
        """Return in how many conversations of the rows with these numbers each check finds what refuses none.

        They are sought when it is known what becomes of the rows: mostly, nobody reads those of rejected ones.
        """
        found = list[tuple[checks.Finding, int]]()
        if self._checked is not None:
            checked, views = self._checked
            stay = pc.is_in(checked.column("row"), rows)
            if not pc.all(stay).as_py():
                checked = checked.filter(stay)
                views = checks.column_views(checked)
            found = numbered(self._run_checks(checked, views, refusing=False), checked)
        chosen = {*rows.to_pylist()} if self._tokens else set[int]()
        found += [(each, row) for each, row in self._tokens if row in chosen]
        if self._on_finding is not None:
            for each, row in found:
                self._on_finding(each, Location(self._file, row, each.message))
        return Counter(code for code, _ in dict.fromkeys((each.code, each.row) for each, _ in found))

    def _run_checks(self, batch: pa.RecordBatch, views: Views, *, refusing: bool) -> list[checks.Finding]:
        """Run the checks that refuse rows, or the others."""
        refused = checks.refusing(strict=self.job.strict, named=self.job.fail_on)
        codes = [code for code in checks.CHECKS if (code in refused) == refusing]
        limits = replace(self._limits, is_file=self._is_file, named=self.job.fail_on)
        return checks.run(batch, codes, limits, views)

    def read(self, batch: pa.RecordBatch, file: str) -> pa.RecordBatch:
        """Return the CONVERSATIONS batch of a source batch as its dialect reads it, without accounting for leaves."""
        return self._run_stages(StagedRows.start(batch), file, [Stage(ROW, self._map), Stage(ROW, self._read)])

    def _run_stages(self, staged: StagedRows, file: str, stages: Sequence[Stage]) -> pa.RecordBatch:
        """Return what the stages make of a batch, from the one on that it has come to."""
        self._file, self.source = file, staged.source
        if not staged.done:
            self._checked, self._tokens = None, []
        counts = RowCounts()
        for stage in stages[staged.done :]:
            if not len(staged.batch):
                break
            with located(file, staged.batch.column(stage.rows)):
                staged.batch = stage.run(staged.batch, counts)
            if any(astuple(counts)):  # most stages count nothing
                staged.counts.add(counts)
                counts = RowCounts()
            staged.done += 1
        return staged.batch

    def report(self, counts: RowCounts) -> None:
        """Add to `counts` how the rows since the last report were rendered, and which losses were accepted."""
        if isinstance(self._engine, render.TracedRenderer):
            stats = self._engine.stats
            now = Counter({"replayed": stats.replayed + stats.python, "jinja": stats.jinja})
            now.update({f"jinja: {reason}": count for reason, count in stats.reasons.items()})
            counts.engine.update(now - self._reported)
            self._reported = now
        if isinstance(self._renderer, GuardedRenderer):
            counts.left_out.update(dict.fromkeys(self._renderer.guard.accepted, 1))
        if self._engine is not None and (level := render.isolation_level(self._engine)):
            counts.engine[f"isolation: {level}"] += counts.written
        counts.left_column.update(dict.fromkeys(map(str, self._ledger.left_columns), 1))
        counts.left_key.update(dict.fromkeys(map(str, self._ledger.left_keys), 1))
        self._ledger = self.job.ledger

    def _map(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self._mapper is None:
            return batch
        mapped = self._mapper(batch)
        dropped = mapped.counts["filtered"] + mapped.counts["unfilled"]
        counts.filtered += dropped
        counts.step(len(batch) - dropped, len(mapped.batch))
        return mapped.batch

    def _to_conversations(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        conversations = self._read(batch, counts)
        with located(self._file, self.source.column(ROW)):
            self._ledger = account_late(self._ledger, self.source, conversations, self._awaited)
        return conversations

    def _read(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        batch = without_columns(batch, self.job.drop)
        conversations = without_turn_keys(self._dialect.convert(batch, self.job.columns), self.job)
        dropped = dialects.dropped_rows(conversations)
        counts.filtered += dropped.total()
        counts.changes.update({f"dropped.{reason}": count for reason, count in dropped.items()})
        counts.changes.update({f"unused.{reason}": n for reason, n in dialects.unused_parts(conversations).items()})
        conversations = conversations.drop_columns([name for name in conversations.schema.names if name in self._added])
        if "template_kwargs" in self.job.columns.fields:
            conversations = fill_variables(conversations, "template_kwargs")
        counts.step(len(batch) - dropped.total(), len(conversations))
        return conversations

    def _attach_media(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        attached, changes = media.attach(batch, self._media, self.job.media, numbered=self._turns_may_go)
        counts.changes.update(changes)
        return attached

    def _sample(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self.job.fraction == 1 and not self.job.tagged:
            return batch
        hashes = mapping.row_hash(batch)
        if self.job.fraction < 1:
            kept = mapping.fraction_mask(hashes, self.job.fraction, seed=self.job.seed)
            hashes = list(compress(hashes, kept.to_pylist()))
            counts.filtered += len(batch) - len(hashes)
            batch = batch.filter(kept)
        if not self.job.tagged:
            return batch
        same, groups = self._key_hashes(self.job.dedup_by, batch), self._key_hashes(self.job.split_by, batch)
        if self.job.dedup_by is not None:
            rows = batch.column("row").to_pylist()
            same, absent = mapping.with_places(same, [f"{row}:{self._file}".encode() for row in rows], hashes)
            counts.findings.update({"dedup.no_value": absent} if absent else {})
        return writers.with_tags(
            batch, *([key or own for key, own in zip(keys, hashes, strict=True)] for keys in (same, groups))
        )

    def _key_hashes(self, name: str | None, batch: pa.RecordBatch) -> Sequence[bytes | None]:
        """Return the hashes of a column of the source for conversations, None where it has no value."""
        if name is None:
            return [None] * len(batch)
        return mapping.value_hash(column_for(name, self.source, batch))

    def _transform(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        changed, changes = transforms.apply(batch, self.job.transforms)
        counts.changes.update(changes)
        counts.step(len(batch), len(changed))
        return changed

    def _check(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        views = checks.column_views(batch)
        raise_first(checks.to_errors(self._run_checks(batch, views, refusing=True)))
        self._checked = batch, views
        return batch

    def _is_file(self, path: str) -> bool:
        """Return whether a medium that is a path has its file, and True for what cannot be known here."""
        key = (self.folder, path)
        if key not in self._files:
            self._files[key] = self.job.embed_media or has_file(path, self.folder)
        return self._files[key]

    def _control_tokens(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self._scanner is None:
            return batch
        outcome = self._scanner.apply(batch, self.job.control_tokens)
        raise_first(outcome.rejected)
        if self.job.control_tokens == "keep":
            found = [
                checks.Finding(each.code, each.row, each.message, each.detail, each.field) for each in outcome.kept
            ]
            self._tokens = numbered([each for each in found if each.code in checks.CHECKS], batch)
            counts.findings.update(each.code for each in found if each.code not in checks.CHECKS)
        elif outcome.rows:
            counts.changes[f"control_tokens.{self.job.control_tokens}"] += len(outcome.rows)
            counts.filtered += len(batch) - len(outcome.batch)
        return outcome.batch

    def _limit_tokens(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self._tokenizer is None or self.job.max_tokens is None or self._limits_output():
            return batch
        source = RenderableBatch(batch, self._renderer, memory=self._memory)
        limited = apply_max_tokens(source, self._tokenizer, self.job.max_tokens, self.job.over_length, counts)
        counts.added += max(0, len(limited) - len(batch))
        return limited

    def _limits_output(self) -> bool:
        """Return whether rows are counted for `--max-tokens` where they are tokenized anyway."""
        is_tokenized = bool(self.job.view) and VIEWS[str(self.job.view)].is_tokenized
        return is_tokenized and self.job.over_length != "split-turns"

    def _follow_media(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        if self._turns_may_go:
            kept = {*self.source.schema.names}.difference(self._media, self.job.media)
            batch, changes = media.follow(batch, [name for name in MEDIA if name not in kept])
            counts.changes.update(changes)
        if self.job.media_tags:
            batch = media.to_tags(batch)
        return find_files(batch, self.folder) if self.job.embed_media else batch

    def _check_parts(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        raise_first(misled_parts(batch, self.source, self.job.mask))
        return batch

    def _to_output(self, batch: pa.RecordBatch, counts: RowCounts) -> pa.RecordBatch:
        self.converted = batch
        if self.job.template is None and not self.job.keeps_parts:
            batch, joined = join_text_parts(batch)
            counts.changes.update({"text_parts.join": joined} if joined else {})
        source = RenderableBatch(batch, self._renderer, self.job.mask is not None, self._find_answer, self._memory)
        fields = VIEWS[self.job.view].fields(source) if self.job.view else {}
        if self.job.mask is not None and not self.job.allows_untrained:
            raise_first(untrained_rows(fields, len(batch)))
        if self.job.weighted and self.job.mask is not None:
            weights = span_weights(whole_conversations(source), fields["assistant_spans"], self.job.mask)
            fields = {**fields, SPAN_WEIGHTS: weights}
        if self._tokenizer is not None and "text" in fields:
            fields = self._tokenize(fields)
        names = [name for name in batch.schema.names if name not in CONVERSATIONS]
        kept = {name.removeprefix(KEPT): batch.column(name) for name in names}
        output = output_batch(fields, kept, len(batch))
        counts.step(len(batch), len(output))
        if self.job.max_tokens is not None and self._limits_output():
            lengths = output.column("input_ids").value_lengths()
            output = drop_long(output, lengths, self.job.max_tokens, self.job.over_length, counts)
        if self.job.packing is not None:
            self.job.packing.check(output)
        if self.job.tagged and {"num_tokens", "input_ids"} & {*fields}:
            output = writers.with_token_counts(output)
        return output if self.job.schema is None else cast_to_schema(output, self.job.schema)

    def _tokenize(self, fields: Fields) -> Fields:
        """Return the columns with `num_tokens`, or with ids, labels and masks instead of the text."""
        assert self._tokenizer is not None
        if self.job.view and VIEWS[self.job.view].is_tokenized:
            has_tags = self.job.template is not None and self.job.template.has_generation_tags
            return self._tokenizer.columns(fields["text"], fields["assistant_spans"], as_transformers=has_tags)
        return {**fields, "num_tokens": self._tokenizer.count(fields["text"])}


_encodes_twice = on_call(__package__, "...render.inspection.probe:encodes_twice")


def media_parts(job: Job) -> list[str]:
    """Return the columns of media that the dialect may give; a mixed one finds them row by row."""
    if job.dialect == "mixed":
        return [name for name in MEDIA if name not in job.columns.keep]
    return [name for name in MEDIA if job.columns.path(name) is not None]


def _mapper(job: Job) -> mapping.Mapper | None:
    if job.mapping is None or job.mapping.is_empty:
        return None
    return mapping.mapper(job.mapping, text_expression, expression, nulls=job.nulls)
