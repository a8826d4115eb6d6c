"""Preview rows: each record beside the output rows that it becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from heapq import merge
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import executors, sources
from ...dialects import DIALECTS
from ...errors import ChatfmtError, RowError, UsageError
from ...json_columns import columns_of, decode_objects, integers, to_display
from ...manifest import Manifest
from ...mapping.plan import FieldMapping
from ...mapping.plan import plan as to_mapping
from ...mapping.selection import shuffle_order
from ...recipe import Recipe
from ...render.masks.masker import WHOLE_TURNS
from ...render.safety.control_tokens import find_control_tokens
from ...schema import CONVERSATIONS, KEYS, MEDIA, ROW
from ...sources import InputSplit, ParseOptions, Source, line_finders
from ...turn_columns import IntArray
from ...views import VIEWS
from ..conversion.row_counts import RowCounts
from ..conversion.source_rows import find_row, merge_batches, row_number, split_rows, to_records
from ..conversion.stages import Conversion
from ..conversion.task import with_position
from ..planning.inputs import split_to_read
from ..planning.jobs import has_nulls
from ..planning.matching import rows_kept
from ..planning.options import span_option
from ..planning.scratch import Scratch
from ..planning.source_plan import SourcePlan, plan_source
from ..planning.templates import load_template
from .explain import Origin, explain
from .figures.finished import control_tokens, unchanged
from .figures.picks import Picks


class PreviewRow(Struct, frozen=True):
    """A record, the output rows that it becomes, and the spans of trained text in `text`."""

    row: int
    """The number of the record in its file, from 0."""
    record: Mapping[str, Any]
    output: Sequence[Mapping[str, Any]]
    spans: Sequence[Sequence[int]] | None = None
    problem: str | None = None
    no_spans: str = ""
    """Why it is not known which text is trained, if nobody asked for a mask."""
    tokens: Sequence[str] = ()
    """The control tokens of the template."""
    raw: str | None = None
    """The text of a record that cannot be read, instead of `record`."""
    text: str = "text"
    """The name of the column that the spans are of."""
    rows: int = 1
    """The number of source rows that form the output together; `record` is one of them."""
    file: str = ""
    code: str = ""
    """The reason code of the `problem`."""
    conversations: Sequence[Mapping[str, Any]] = ()
    """The conversations of which the output was made, transformed but not rendered."""
    dialect: str = ""
    """The dialect that read the row, and what that is, if `origins` were asked for."""
    line: int | None = None
    """The line on which the record begins, from 1, where it is on lines of its own."""
    origins: Sequence[Origin] = ()
    """How each message was made, if that was asked for."""


class Choice(Struct, frozen=True):
    """The rows to preview: the first `count`, else those with the numbers `rows`, else a `sample` of so many."""

    count: int = 3
    rows: tuple[int, ...] = ()
    sample: int = 0
    seed: int = 0
    explains: bool = False


def preview_rows(recipe: Recipe, choice: Choice, scratch: Scratch) -> list[PreviewRow]:
    """Convert the chosen rows of the first source one by one; a row that fails has its `problem`.

    Rows of the output of a conversion are shown with the columns that were written, unless the recipe changes them. If
    conversations span several rows, the file is read as a whole and conversations are chosen instead.
    Raises UsageError for a row that is not there.
    """
    if len(choice.rows) > 1:
        each = (preview_rows(recipe, replace(choice, rows=(row,)), scratch) for row in choice.rows)
        return [row for rows in each for row in rows]
    manifest = None if choice.explains else unchanged(recipe)
    found = _convert(recipe, choice, scratch) if manifest is None else _read_written(recipe, choice, manifest)
    if choice.rows and not found:
        raise UsageError(f"`{recipe.source[0].source}` has no row {choice.rows[0]}", hint="rows count from 0")
    return found


def _convert(recipe: Recipe, choice: Choice, scratch: Scratch) -> list[PreviewRow]:
    source = _plan(recipe, choice, scratch)
    together = source.job.whole_file
    if together and choice.explains:
        raise UsageError("`--explain` shows how one row is read: these conversations span several", hint="omit it")
    preview = _preview_sample if choice.sample and not together else _preview_source
    with closing(executors.in_worker(preview, (source, choice))) as rows:
        if together and choice.sample:
            every = list(rows)
            places = sorted(shuffle_order(len(every), choice.seed)[: choice.sample])
            return [*with_lines(source.source, (every[place] for place in places))]
        numbered = choice.rows and (together or source.source.options.grouped)
        wanted = (row for row in rows if not numbered or row.row in choice.rows)
        some = islice(wanted, choice.sample or (1 if choice.rows else choice.count))
        found = [*with_lines(source.source, some)]
    if numbered and not found:
        raise UsageError(
            f"no conversation of `{recipe.source[0].source}` begins at row {choice.rows[0]}",
            hint="a conversation has the number of its first row, as shown without --row",
        )
    return found


def _read_written(recipe: Recipe, choice: Choice, manifest: Manifest) -> list[PreviewRow]:
    """Return the chosen rows of the output of a conversion."""
    if choice.rows:
        recipe = dataclasses.replace(recipe, skip=choice.rows[0], limit=1, where=())
    elif not choice.sample:
        recipe = dataclasses.replace(recipe, limit=choice.count)
    spec, options = recipe.source[0], ParseOptions(allow_empty=True)
    source = sources.resolve(spec.source, split=spec.split or recipe.split, options=options)
    shards = sources.plan_splits(source, split_to_read(recipe, spec, source))
    request = (tuple(chain(*shards)), to_mapping({}, where=recipe.condition), has_nulls(source), choice, manifest)
    with closing(executors.in_worker(_written_rows, request)) as rows:
        return [*islice(with_lines(source, rows), choice.sample or choice.count)]


def _written_rows(request: tuple[Sequence[InputSplit], FieldMapping, bool, Choice, Manifest]) -> Iterator[PreviewRow]:
    """Yield the rows of the output of a conversion for which a condition is true, or a random sample of them."""
    inputs, where, nulls, choice, manifest = request
    keeps = rows_kept(where, nulls=nulls, failed=True)
    read = ((part.shown, batch) for part in inputs for batch in sources.read(part, columns=None))
    batches = ((file, batch.take(integers(keeps(batch)))) for file, batch in read)
    if choice.sample:
        picks = Picks(choice.seed)
        for file, batch in batches:
            picks.sample(file, batch, choice.sample)
        batches = ((pick.file, pick.row) for pick in picks.distinct())
    names, tokens = manifest.recipe["rename"], control_tokens(manifest)
    for file, batch in batches:
        for number, record in enumerate(map(to_display, to_records(batch))):
            output = dict(record)
            spans = output.pop(names.get("assistant_spans", "assistant_spans"), None)
            row, text = row_number(batch, number), names.get("text", "text")
            yield PreviewRow(
                row, record, (output,), spans, tokens=tokens, text=text, file=file, conversations=(output,)
            )


def _plan(recipe: Recipe, choice: Choice, scratch: Scratch) -> SourcePlan:
    """Return the plan of the first source with the shards that hold the chosen rows.

    A row is read alone, unless conversations span several rows, which are then numbered by their first ones.
    """

    def plan(recipe: Recipe) -> SourcePlan:
        recipe = dataclasses.replace(recipe, mask=recipe.mask or bool(span_option(recipe)))
        return plan_source(recipe, recipe.source[0], load_template(recipe), scratch)

    if not choice.rows:
        first = plan(recipe if choice.sample else dataclasses.replace(recipe, limit=choice.count))
        return plan(recipe) if first.job.whole_file else first
    every = dataclasses.replace(recipe, skip=0, limit=None, allow_empty=True)
    if recipe.groups_rows:
        return plan(every)
    alone = plan(dataclasses.replace(every, skip=choice.rows[0], limit=1, where=()))
    if alone.job.whole_file:
        return plan(recipe)
    return replace(plan(every), shards=alone.shards) if recipe.where else alone


def with_lines(source: Source, rows: Iterable[PreviewRow]) -> Iterator[PreviewRow]:
    """Yield rows of a source, those of each file in order, with the lines on which they begin."""
    finders = line_finders(source)
    for row in rows:
        finder = finders.get(row.file)
        yield row if finder is None or row.line is not None else replace(row, line=finder.line(row.row))


def _conversion(source: SourcePlan) -> Conversion:
    """Return the conversion that marks the text trained with the options of `--mask`, else that of whole turns."""
    job = source.job
    masked = job.template is not None and job.view and VIEWS[job.view].takes_mask
    return Conversion(replace(job, mask=job.mask or WHOLE_TURNS, allows_untrained=True) if masked else job)


def _keeps(source: SourcePlan, choice: Choice) -> Callable[[pa.RecordBatch], IntArray]:
    """Return a function that finds the rows of a batch to show: those that `--where` keeps, or the chosen one."""
    if choice.rows and source.source.options.grouped:
        return lambda batch: np.flatnonzero(np.isin(batch.column(ROW).to_numpy(), choice.rows))
    where = None if choice.rows else source.job.mapping
    return rows_kept(where or to_mapping({}), nulls=source.job.nulls, failed=True)


def _preview_sample(request: tuple[SourcePlan, Choice]) -> Iterator[PreviewRow]:
    """Yield rows that are chosen at random from all that can be read, in order."""
    source, choice = request
    picks, keeps = Picks(choice.seed), _keeps(source, choice)
    for split in source.inputs:
        for batch in with_position(sources.read(split, columns=None, on_bad=lambda error, raw: None), split):
            picks.sample(split.shown, batch.take(integers(keeps(batch))), choice.sample)
    conversion = _conversion(source)
    for pick in picks.distinct():
        yield preview_row(conversion, pick.row, pick.file, explains=choice.explains)


def _preview_source(request: tuple[SourcePlan, Choice]) -> Iterator[PreviewRow]:
    source, choice = request
    conversion, keeps = _conversion(source), _keeps(source, choice)
    for split in source.inputs:
        bad: list[PreviewRow] = []
        batches = sources.read(split, columns=None, on_bad=partial(add_unreadable, bad))
        if source.job.whole_file:
            for batch in with_position(merge_batches(batches), split):
                yield from preview_file(conversion, batch, split.shown)
            continue
        for batch in with_position(batches, split):
            rows = split_rows(batch.take(integers(keeps(batch))))
            good = (preview_row(conversion, row, split.shown, explains=choice.explains) for row in rows)
            yield from merge(bad[:], good, key=lambda row: row.row)
            bad.clear()
        yield from bad


def add_unreadable(rows: list[PreviewRow], error: RowError, raw: bytes) -> None:
    """Add a record that cannot be read, with the reason."""
    text = raw.decode(errors="backslashreplace")
    rows.append(PreviewRow(error.at.row or 0, {}, (), problem=one_line(error), raw=text, line=error.at.line))


def one_line(error: ChatfmtError) -> str:
    """Return an error and its hint on one line."""
    return f"{error}" + (f" (hint: {error.hint})" if error.hint else "")


def preview_row(conversion: Conversion, row: pa.RecordBatch, file: str, *, explains: bool = False) -> PreviewRow:
    """Convert one row; with `explains` its `origins` are found too."""
    number = row_number(row, 0)
    try:
        outputs = list(conversion.convert(row, file, RowCounts()))
    except ChatfmtError as error:
        if error.code == "mask.refused" and conversion.job.mask is WHOLE_TURNS:
            unmasked = preview_row(Conversion(replace(conversion.job, mask=None)), row, file, explains=explains)
            return replace(unmasked, no_spans=error.message)
        record = to_display(to_records(row)[0])
        return PreviewRow(number, record, (), problem=one_line(error), file=file, code=error.code)
    made = [out for batch in outputs for out in to_output_rows(batch)]
    conversations = to_conversation_rows(conversion.converted) if made else ()
    shown = to_preview_row(conversion, number, to_records(row)[0], made)
    shown = replace(shown, file=file, conversations=conversations)
    if not explains or not made:
        return shown
    dialect = f"{conversion.job.dialect}: {DIALECTS[conversion.job.dialect].summary}"
    return replace(shown, dialect=dialect, origins=explain(conversion, row, file, shown.record))


def preview_file(conversion: Conversion, batch: pa.RecordBatch, file: str) -> Iterator[PreviewRow]:
    """Convert all rows of a file together; each conversation comes with the row that it is counted under."""
    try:
        numbers = conversion.conversations(batch, file).column("row")
        outputs = [out for each in conversion.convert(batch, file, RowCounts()) for out in to_output_rows(each)]
    except ChatfmtError as error:
        row = batch.slice(0 if error.at.row is None else max(find_row(error.at.row, batch), 0), 1)
        yield PreviewRow(
            row_number(row, 0), to_display(to_records(row)[0]), (), problem=one_line(error), rows=len(batch), file=file
        )
        return
    conversations = conversion.converted
    for index, output in enumerate(outputs):
        place = index * len(numbers) // len(outputs)
        number = int(numbers[place].as_py())
        row = batch.slice(find_row(number, batch), 1)
        shown = to_preview_row(conversion, number, to_records(row)[0], [output])
        said = to_conversation_rows(conversations.slice(min(place, len(conversations) - 1), 1))
        yield replace(shown, rows=len(batch), file=file, conversations=said)


def to_preview_row(
    conversion: Conversion, number: int, record: Mapping[str, Any], output: Sequence[dict[str, Any]]
) -> PreviewRow:
    """Return a converted row, with the spans of its text moved out of the output."""
    spans = output[0].pop("assistant_spans", None) if output else None
    template = conversion.job.template
    names = conversion.job.rename
    output = [{names.get(name, name): value for name, value in row.items()} for row in output]
    tokens = find_control_tokens(template) if template else ()
    return PreviewRow(number, to_display(record), output, spans, tokens=tokens, text=names.get("text", "text"))


def to_conversation_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the conversations of a CONVERSATIONS batch as plain data to display, without what was kept beside them."""
    return to_output_rows(batch.select([name for name in batch.schema.names if name in (*CONVERSATIONS[1:], *MEDIA)]))


def to_output_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of an output batch as plain data to display."""
    columns = columns_of(batch)
    columns.pop(KEYS, None)  # the order of the keys of the source, beside kept columns
    return [to_display(row) for row in decode_objects(columns)]
