"""The sources of a recipe as files, with rows to judge them by and cut into shards: what is read before the first row.

Damaged files can crash a reader of native code, so that it is done in a process apart where that costs little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import executors, sources
from ...errors import UsageError, located
from ...recipe import Recipe, SourceSpec
from ...sources import InputSplit, ParseOptions, Source, SourceFile
from ...sources.discovery.split_slices import default_split
from .scratch import Scratch, from_stdin, read_more_than_once

SAMPLE_ROWS = 1000


class SourceRequest(Struct, frozen=True):
    """What to look at; `scratch` must have its folder already, `source` is what was found before."""

    recipe: Recipe
    spec: SourceSpec
    scratch: Scratch
    source: Source | None = None


class SourceReader:
    """A look at a source: what it is and some of its rows, then its shards, then the hashes of its files.

    To be asked in that order and closed; where it looks in a process apart, the answers are prepared meanwhile.
    stdin, and what else cannot be cut where it is, is written to `scratch`.

    Raises UsageError, InputError, RowError where all rows of the sample are bad.
    """

    def __init__(self, recipe: Recipe, spec: SourceSpec, scratch: Scratch, source: Source | None = None) -> None:
        _ = scratch.folder  # made here, so that it is removed here
        if source is None and spec.source == "-":  # which only this process can read
            source = find(recipe, spec, scratch)
        self._answers = executors.in_worker(_read_source, SourceRequest(recipe, spec, scratch, source))
        self.source: Source = next(self._answers)

    def sample(self) -> list[pa.RecordBatch]:
        """Up to 1000 of its rows."""
        return list(next(self._answers))

    def shards(self) -> tuple[tuple[InputSplit, ...], ...]:
        """The pieces of which each shard is made."""
        return tuple(next(self._answers))

    def files(self) -> tuple[Mapping[str, Any], ...]:
        """Name, size and hash of each of its files."""
        found = tuple(next(self._answers))
        next(self._answers, None)  # there is no more: the process may do something else
        return found

    def close(self) -> None:
        """SourceReader no further."""
        self._answers.close()


def _read_source(question: SourceRequest) -> Iterator[Any]:
    recipe, scratch = question.recipe, question.scratch
    source = question.source or find(recipe, question.spec, scratch)
    yield source
    executors.report_position(f"the first rows of `{source.shown}`")
    split = asked_split(recipe, question.spec, source)
    with located(source.shown):
        yield sources.sample(source, split, rows=SAMPLE_ROWS)
    executors.report_position(f"the structure of `{source.shown}`")
    yield cut(recipe, source, split, scratch)
    yield hashes(files_of(source))


def cut(recipe: Recipe, source: Source, split: str | None, scratch: Scratch) -> tuple[tuple[InputSplit, ...], ...]:
    """The pieces of each shard; a file that can only be read from its start is unpacked if several want of it."""
    sizes = {"rows_per_shard": recipe.rows_per_shard, "shard_bytes": recipe.shard_size}
    shards = sources.plan_splits(source, split, **sizes)
    if read_more_than_once(source, shards):
        shards = sources.plan_splits(sources.spooled(source, scratch.folder), split, **sizes)
    return tuple(shards)


def parse_options(recipe: Recipe) -> ParseOptions:
    """How the recipe wants text to be read."""
    if recipe.from_rejects:
        return ParseOptions(allow_empty=recipe.allow_empty, rejects=True)
    return ParseOptions(
        field=recipe.field,
        header=recipe.header,
        quote=recipe.quote,
        delimiter=recipe.delimiter,
        encoding=recipe.encoding,
        allow_empty=recipe.allow_empty,
    )


def find(recipe: Recipe, spec: SourceSpec, scratch: Scratch) -> Source:
    """The source that `spec` names as files: what stdin holds is written to `scratch`."""
    source = resolve(recipe, spec)
    if source.kind == "stdin":
        source = from_stdin(source, scratch)
    return (
        replace(source, splits={plain_split(recipe, spec): tuple(files_of(source))}) if recipe.from_rejects else source
    )


def plain_split(recipe: Recipe, spec: SourceSpec) -> str:
    """The split that rejects came from, as far as the recipe says."""
    split = spec.split or recipe.split or "train"
    return split if split.isidentifier() and split != "all" else "train"


def resolve(recipe: Recipe, spec: SourceSpec) -> Source:
    """The source that `spec` names, with the recipe's own subset, split and revision where it has none."""
    if recipe.from_rejects:
        return sources.resolve(spec.source, options=parse_options(recipe))
    return sources.resolve(
        spec.source,
        name=spec.name or recipe.name,
        split=spec.split or recipe.split,
        revision=spec.revision or recipe.revision,
        data_files=recipe.data_files,
        data_dir=recipe.data_dir,
        options=parse_options(recipe),
    )


def asked_split(recipe: Recipe, spec: SourceSpec, source: Source) -> str | None:
    """The split to read, cut to `--skip` and `--limit`."""
    asked, rows = spec.split or recipe.split, slice_of(recipe)
    if not rows:
        return asked
    names = list(source.splits) if asked == "all" else [asked or default_split(list(source.splits))]
    if any("[" in name or "+" in name for name in names):
        raise UsageError("`--limit` and `--skip` do not go with a split that is a slice", hint="write it in the slice")
    return "+".join(f"{name}{rows}" for name in names)


def slice_of(recipe: Recipe) -> str:
    """The rows that `--skip` and `--limit` leave, as `[12:20]`; empty for all."""
    if recipe.limit is None and not recipe.skip:
        return ""
    stop = "" if recipe.limit is None else recipe.skip + recipe.limit
    return f"[{recipe.skip or ''}:{stop}]"


def files_of(source: Source) -> list[SourceFile]:
    """The files of all splits of the source."""
    return [file for group in source.splits.values() for file in group]


def hashes(files: Sequence[SourceFile]) -> list[dict[str, Any]]:
    """Name, size and hash of each file."""
    return [{"file": shown, "bytes": size, "xxh3_128": digest} for shown, size, digest in sources.fingerprint(files)]
