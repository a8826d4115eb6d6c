"""One source of a conversion: its files, how its rows are read, and its shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ...dialects import Detection
from ...errors import UsageError, located
from ...recipe import Recipe, SourceSpec
from ...render.template.chat_template import ChatTemplate
from ...sources import InputSplit, Source, lines_named
from ..conversion.job import Job
from ..conversion.media_files import with_folder
from ..conversion.source_rows import merge_batches
from .inputs import header_checked, open_source, without_unreadable
from .jobs import has_nulls, to_checked_job
from .options import check_embedding
from .scratch import Scratch
from .target import LINES, Target

FIRST_ROWS = 50
"""Rows of a source that are kept to find the types of output columns that do not depend on the row."""


class SourcePlan(Struct, frozen=True):
    """One source of a conversion and how its rows are read."""

    source: Source
    job: Job
    detection: Detection
    shards: tuple[tuple[InputSplit, ...], ...] = ()
    files: tuple[Mapping[str, Any], ...] = ()
    """Name, size and content hash of each file."""
    first_rows: pa.RecordBatch | None = None

    @property
    def inputs(self) -> tuple[InputSplit, ...]:
        """All input splits, in order."""
        return tuple(split for shard in self.shards for split in shard)

    @property
    def name(self) -> str:
        """The file that it begins in, by which messages name a task that reads it."""
        return self.shards[0][0].shown

    def by_shard(self) -> list[SourcePlan]:
        """Return a plan for each shard."""
        return [replace(self, shards=(shard,), first_rows=None) for shard in self.shards]


def plan_source(
    recipe: Recipe,
    spec: SourceSpec,
    template: ChatTemplate | None,
    scratch: Scratch,
    target: Target = LINES,
    *,
    hashed: bool = False,
) -> SourcePlan:
    """Find a source, detect how its rows are read, and cut it into shards; hash its files if `hashed`."""
    with open_source(recipe, spec, scratch) as reader:
        source, sample = reader.source, reader.sample
        with lines_named(source), located(source.shown), header_checked(source, sample):
            job, detection = to_checked_job(recipe, sample, template, target, nulls=has_nulls(source))
        job = without_unreadable(job, source, sample)
        check_embedding(recipe, job, target)
        first_rows = sample[0].slice(0, FIRST_ROWS) if sample else None
        if template is None and job.nulls:
            first_rows = next(merge_batches(iter(sample)), None)
        shards = reader.shards
        if job.embed_media or job.media:
            shards = tuple(
                tuple(with_folder(split, spec.source, recipe.media_root) for split in shard) for shard in shards
            )
        return SourcePlan(source, job, detection, shards, reader.files if hashed else (), first_rows)


def check_test_split(recipe: Recipe, sources: Sequence[SourcePlan]) -> None:
    """Raise UsageError if `--test-fraction` would add rows to a test split that a source has."""
    if recipe.test_fraction and "test" in {shard[0].split for source in sources for shard in source.shards}:
        raise UsageError(
            "`--test-fraction` would add rows to the split `test`, which the source has already",
            hint="leave it out, or take the rows from one split: --split train",
        )


def check_views(sources: Sequence[SourcePlan]) -> None:
    """Raise UsageError for sources whose rows have different columns."""
    views = {source.job.view: source.source.shown for source in sources}
    if len(views) > 1:
        listed = ", ".join(f"`{source}` gives {view}" for view, source in views.items())
        raise UsageError(
            f"the sources are of different types: {listed}", hint="--to text or --to messages gives them one type"
        )
