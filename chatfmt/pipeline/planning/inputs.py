"""Find the files of each source, sample their rows, cut them into shards and hash them.

A damaged file can crash a native reader, so this happens in a worker process where one is cheap.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import executors, mapping, sources
from ...dialects.chat.turns import ROLE_KEYS
from ...dialects.kit.tool_calls import ARGUMENTS
from ...errors import ChatfmtError, InputError, NoDialect, RowError, UsageError, located
from ...field_path import top_level
from ...json_columns import is_turns, names_inside
from ...manifest import fingerprint
from ...recipe import Recipe, SourceSpec
from ...sources import InputSplit, ParseOptions, Source
from ...sources.discovery.split_slices import default_split, select_slices
from ..conversion.job import Job
from ..conversion.source_rows import column_names
from ..ledger.suspects import part_named
from .jobs import has_nulls
from .matching import matching_rows
from .scratch import Scratch, from_stdin, read_more_than_once, write_stdin

SAMPLE_ROWS = 1000


class SourceRequest(Struct, frozen=True):
    """A source to read; `scratch` has its folder already, and `source` is set if its files are known."""

    recipe: Recipe
    spec: SourceSpec
    scratch: Scratch
    source: Source | None


class SampledRows(Struct, frozen=True):
    """The source, its first rows, and the codes of those that cannot be read."""

    source: Source
    batches: list[pa.RecordBatch]
    bad: list[str]


class PlannedShards(Struct, frozen=True):
    """The input splits of each shard."""

    shards: tuple[tuple[InputSplit, ...], ...]


class HashedFiles(Struct, frozen=True):
    """Name, size and hash of each file."""

    files: tuple[Mapping[str, Any], ...]


SourceResult = SampledRows | PlannedShards | HashedFiles
R = TypeVar("R", SampledRows, PlannedShards, HashedFiles)


class SourceReader:
    """The results of reading one source. Each property waits for its result; the worker reads on in the meantime."""

    def __init__(self, results: Iterator[SourceResult]) -> None:
        self._results = results
        self._ready: dict[type[SourceResult], SourceResult] = {}

    @property
    def source(self) -> Source:
        return self._wait_for(SampledRows).source

    @property
    def sample(self) -> list[pa.RecordBatch]:
        """Up to 1000 rows."""
        return self._wait_for(SampledRows).batches

    @property
    def unreadable(self) -> list[str]:
        """The codes of the sampled rows that cannot be read."""
        return self._wait_for(SampledRows).bad

    @property
    def shards(self) -> tuple[tuple[InputSplit, ...], ...]:
        """The input splits of each shard."""
        return self._wait_for(PlannedShards).shards

    @property
    def files(self) -> tuple[Mapping[str, Any], ...]:
        """Name, size and hash of each file."""
        files = self._wait_for(HashedFiles).files
        next(self._results, None)  # this was the last result: the worker is free for other work
        return files

    def _wait_for(self, kind: type[R]) -> R:
        while kind not in self._ready:
            result = next(self._results)
            self._ready[type(result)] = result
        found = self._ready[kind]
        assert isinstance(found, kind)
        return found


@contextmanager
def open_source(
    recipe: Recipe, spec: SourceSpec, scratch: Scratch, source: Source | None = None
) -> Iterator[SourceReader]:
    """Start reading a source, or the known files of `source`; what the block does not use may stay unread.

    stdin, and files that cannot be cut where they are, are written to `scratch`.

    The properties of the reader raise UsageError, InputError, RowError if all rows of the sample are bad.
    """
    _ = scratch.folder  # created in this process, which also removes it
    if source is None and spec.source == "-":  # only this process can read stdin
        source = find_source(recipe, spec, scratch)
    with closing(executors.in_worker(_read_source, SourceRequest(recipe, spec, scratch, source))) as results:
        yield SourceReader(results)


@contextmanager
def header_checked(source: Source, sample: Sequence[pa.RecordBatch]) -> Iterator[None]:
    """Add to the hint for rows that no dialect fits: columns that cannot be read, and `--no-header` for CSV rows.

    The latter if a name in their header looks like a text.
    """
    try:
        yield
    except NoDialect as error:
        text = next((name for name in sample[0].schema.names if _TEXT.search(name)), None) if sample else None
        if source.unreadable:
            error.hint = f"{'; '.join(unreadable_notes(source))}; {error.hint}"
        if text is not None and source.options.header and {file.format for file in source.files} == {"csv"}:
            error.hint = f"--no-header if `{text}` is not the name of a column but begins a row; or {error.hint}"
        raise


def without_unreadable(job: Job, source: Source, sample: Sequence[pa.RecordBatch]) -> Job:
    """Return the job that reads all columns but those that cannot be read, if it would read all."""
    if not source.unreadable or job.read is not None:
        return job
    read = tuple(column_names(sample))
    return replace(job, read=read, key=f"{job.key}-{fingerprint({'read': read})}")


def unreadable_notes(source: Source) -> list[str]:
    """Return a note on each column that cannot be read."""
    return [f"`{name}` cannot be read and is left behind: {why}" for name, why in source.unreadable.items()]


_TEXT = re.compile(r"[.?!]$|^[\d.,:/ -]+$|^\s*(\S+\s+){5}")
"""What a sentence or a number looks like, and no name of a column."""


def _read_source(request: SourceRequest) -> Iterator[SourceResult]:
    recipe, spec, scratch = request.recipe, request.spec, request.scratch
    source = request.source or find_source(recipe, spec, scratch)
    if recipe.groups_rows and not source.options.grouped:
        from ..grouping.group import group_source

        executors.report_position(f"the rows of `{source.shown}`")
        source = with_others(recipe, source, scratch)
        source = group_source(recipe, source, splits_to_read(recipe, spec, source), scratch.folder)
    executors.report_position(f"the first rows of `{source.shown}`")
    split = split_to_read(recipe, spec, source)
    bad: list[RowError] = []
    with located(source.shown):
        source, sample = sampled(recipe, source, split, bad)
        dropped = source.unreadable.keys() & {*recipe.drop}
        late = sources.late_rows(source, split, unsampled_columns(recipe, sample) - dropped)
        yield SampledRows(source, [*sample, *late], [error.code for error in bad])
    executors.report_position(f"the structure of `{source.shown}`")
    yield PlannedShards(cut_into_shards(recipe, source, split, scratch))
    hashed = sources.fingerprint(source.files_as_found)
    yield HashedFiles(tuple({"file": shown, "bytes": size, "xxh3_128": digest} for shown, size, digest in hashed))


def sampled(
    recipe: Recipe, source: Source, split: str | None, bad: list[RowError]
) -> tuple[Source, list[pa.RecordBatch]]:
    """Return the sample of a source, without columns that cannot be read and that nobody asked for; these are noted."""
    try:
        return source, sources.sample(source, split, SAMPLE_ROWS, bad)
    except InputError:
        found = {} if "all" in recipe.keep else sources.column_problems(source, split, SAMPLE_ROWS)
        wrong = {name: problem for name, problem in found.items() if problem}
        if not wrong or len(wrong) == len(found):
            raise
        types = sources.column_types(source.files[0])
        if any(part_named(key) or key in _KEYS for name in wrong for key in (name, *names_inside(types[name]))):
            raise
        columns = [name for name in found if name not in wrong]
        source = replace(source, unreadable=wrong)
        source = replace(source, notes=(*source.notes, *unreadable_notes(source)))
        return source, sources.sample(source, split, SAMPLE_ROWS, bad, columns)


_KEYS = frozenset((*ROLE_KEYS, *ARGUMENTS))
"""Keys of turns and of calls, whatever the column is called."""


def unsampled_columns(recipe: Recipe, sample: Sequence[pa.RecordBatch]) -> set[str]:
    """Return the columns, and the key of reasoning, that the recipe names and no row of the sample has. Later rows may.

    Of a recipe that is invalid there are none: the plan explains it.
    """
    known = {*column_names(sample)}
    with suppress(ChatfmtError):
        selected = {} if recipe.groups_rows else {"explode": recipe.explode, "where": recipe.condition}
        fields = mapping.plan(recipe.map, markers=recipe.marker, **selected)
        named = [name for name in (*recipe.keep, *recipe.drop, recipe.dedup_by, recipe.split_by) if name is not None]
        columns = {*fields.needs, *(top_level(name, known) for name in named if name != "all")} - known
        turns = [column.type.value_type for batch in sample for column in batch.columns if is_turns(column.type)]
        reasoning = {top_level(recipe.map.get("messages.reasoning", ""), ())} - {""}
        return columns | {f"[].{key}" for key in reasoning.difference(name for turn in turns for name in turn.names)}
    return set()


def cut_into_shards(
    recipe: Recipe, source: Source, split: str | None, scratch: Scratch
) -> tuple[tuple[InputSplit, ...], ...]:
    """Return the input splits of each shard.

    A file that can only be read from its start is unpacked to `scratch` if several shards need it.
    """
    sizes = {"rows_per_shard": recipe.rows_per_shard, "shard_bytes": recipe.shard_size}
    shards = sources.plan_splits(source, split, **sizes)
    if read_more_than_once(source, shards):
        shards = sources.plan_splits(sources.unpack_source(source, scratch.folder), split, **sizes)
    check_shard_size(recipe, source, len(shards))
    return tuple(shards)


def check_shard_size(recipe: Recipe, source: Source, shards: int) -> None:
    """Raise UsageError if the shards are far larger than `--shard-size`, because the input is not cut any finer."""
    size = sum(file.size for file in source.files)
    if recipe.shard_size and shards and size // shards > _COARSE * recipe.shard_size:
        raise UsageError(
            f"`--shard-size {recipe.shard_size}` is smaller than the pieces in which `{source.shown}` can be read, "
            f"of about {size // shards:,} bytes",
            hint="--rows-per-shard cuts at any row",
        )


_COARSE = 2
"""By how much shards may exceed the size that was asked for: a size is a round number of row groups or blocks."""


def find_source(recipe: Recipe, spec: SourceSpec, scratch: Scratch) -> Source:
    """Return the source that `spec` names, as files: stdin is written to `scratch`."""
    source = find_records(recipe, parse_options(recipe), partial(resolve_source, recipe, spec, scratch))
    if source.kind == "stdin":
        path = write_stdin(source, scratch, recipe.spool_limit)
        source = find_records(recipe, source.options, partial(from_stdin, source, path))
    if recipe.from_rejects:
        return replace(source, splits={split_of_rejects(recipe, spec): source.files})
    return source


def with_others(recipe: Recipe, first: Source, scratch: Scratch) -> Source:
    """Return the first source of the recipe with the files of the others, whose rows are grouped with its own."""
    others = [find_source(recipe, spec, scratch) for spec in recipe.source[1:]]
    if any(spec.weight != 1 for spec in recipe.source) or any(other.options != first.options for other in others):
        raise UsageError(
            "`--group-by` joins the rows of all sources, which must be read the same way and have the same weight"
        )
    files = dict(first.splits)
    for other in others:
        files |= {split: (*files.get(split, ()), *found) for split, found in other.splits.items()}
    shown = ", ".join(source.shown for source in (first, *others))
    return replace(
        first, splits=files, shown=shown, notes=tuple(note for one in (first, *others) for note in one.notes)
    )


def find_records(recipe: Recipe, options: ParseOptions, resolve: Callable[[ParseOptions], Source]) -> Source:
    """Return the source that `resolve` finds; a JSON object that is one record, or columns of them, is read as such.

    Raises the InputError of `resolve` for an object whose rows cannot be converted.
    """
    try:
        return resolve(options)
    except InputError as error:
        if error.code != "json.document" or options.field is not None:
            raise
        for asked, field in itertools.product((recipe, unrendered(recipe)), ("columns(.)", ".")):
            with suppress(ChatfmtError):
                source = resolve(replace(options, field=field))
                check_converts(asked, source)
                meant = "one record" if field == "." else "columns, one row for each of their values"
                note = f"the JSON object is read as {meant}: --field {shlex.quote(field)}"
                return replace(source, notes=(*source.notes, note))
        raise


def unrendered(recipe: Recipe) -> Recipe:
    """Return the recipe of the conversations that a template would render; what is asked of their text is left out."""
    return dataclasses.replace(recipe, template=None, mask=False, generation_prompt=False, continue_final=False)


def check_converts(recipe: Recipe, source: Source) -> None:
    """Convert the first rows of a source as the recipe says; raises the error that stops it."""
    from ..conversion.row_counts import RowCounts
    from ..conversion.stages import Conversion
    from .jobs import to_job
    from .templates import load_template

    rows = sources.sample(source, rows=20)
    job, _ = to_job(recipe, rows, load_template(recipe), nulls=False)
    for batch in rows:
        list(Conversion(job).convert(batch, source.shown, RowCounts()))


def resolve_source(recipe: Recipe, spec: SourceSpec, scratch: Scratch, options: ParseOptions) -> Source:
    """Return the source that `spec` names, with the recipe's subset, split and revision where it has none."""
    if recipe.from_rejects:
        return sources.resolve(spec.source, options=options)
    return sources.resolve(
        spec.source,
        name=spec.name or recipe.name,
        split=spec.split or recipe.split,
        revision=spec.revision or recipe.revision,
        data_files=recipe.data_files,
        data_dir=recipe.data_dir,
        options=options,
        unpack_to=scratch.folder,
    )


def parse_options(recipe: Recipe) -> ParseOptions:
    """Return the options for reading text files."""
    if recipe.from_rejects:
        return ParseOptions(allow_empty=recipe.allow_empty, rejects=True, max_row_bytes=recipe.max_row_bytes)
    return ParseOptions(
        field=recipe.field,
        header=recipe.header,
        quote=recipe.quote,
        delimiter=recipe.delimiter,
        encoding=recipe.encoding,
        max_row_bytes=recipe.max_row_bytes,
        allow_empty=recipe.allow_empty,
    )


def split_of_rejects(recipe: Recipe, spec: SourceSpec) -> str:
    """Return the split that rejects belong to, `train` unless the recipe names another."""
    split = spec.split or recipe.split or "train"
    return split if split.isidentifier() and split != "all" else "train"


def split_to_read(recipe: Recipe, spec: SourceSpec, source: Source) -> str | None:
    """Return the split to read, as a slice if `--skip` or `--limit` is given; see `matching`."""
    split, rows = spec.split or recipe.split, row_slice(recipe)
    if not rows:
        return split
    if split and "[" in split:
        several = "convert the slice to a file, then that file with `--limit` or `--skip`"
        hint = several if recipe.condition or recipe.groups_rows else "write it in the slice"
        raise UsageError("`--limit` and `--skip` cannot be combined with a split that is a slice", hint=hint)
    available = list(source.splits)
    names = available if split == "all" else [each.strip() for each in (split or default_split(available)).split("+")]
    if recipe.condition and not recipe.groups_rows and recipe.limit != 0:
        return "+".join(name + matching_rows(recipe, source, name, nulls=has_nulls(source)) for name in names)
    return "+".join(f"{name}{rows}" for name in names)


def splits_to_read(recipe: Recipe, spec: SourceSpec, source: Source) -> list[str]:
    """Return the names of the splits to read."""
    slices = select_slices(spec.split or recipe.split, list(source.splits))
    return list(dict.fromkeys(part.split for part in slices))


def row_slice(recipe: Recipe) -> str:
    """Return the rows that `--skip` and `--limit` leave, as `[12:20]`; empty for all."""
    if recipe.limit is None and not recipe.skip:
        return ""
    stop = "" if recipe.limit is None else recipe.skip + recipe.limit
    return f"[{recipe.skip or ''}:{stop}]"
