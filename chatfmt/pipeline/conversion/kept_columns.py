"""Columns that are carried through, and those that cannot be because the output has columns of their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from ... import dialects
from ...dialects import Detection
from ...errors import UsageError
from ...render.safety.control_tokens import ESCAPES
from ...views import VIEWS
from .job import Job

if TYPE_CHECKING:
    from ...recipe import Recipe

TOKENS = ("input_ids", "labels", "assistant_masks")


def is_kept(recipe: Recipe, name: str) -> bool:
    """Whether a column that a mapping makes plays no part in the conversation and is there to be carried through."""
    return name not in dialects.known_parts() and (name in recipe.keep or "all" in recipe.keep)


def added_columns(job: Job) -> frozenset[str]:
    """The columns that the options of a job add to its output."""
    view = VIEWS.get(job.view or "")
    added = {"assistant_spans"} if job.mask is not None and view and view.takes_mask else set()
    if job.tokenizer is not None:
        added |= set(TOKENS if view and view.is_tokenized else ("num_tokens",))
    return frozenset(added | ({ESCAPES} if job.control_tokens == "escape" else set()))


def mark_overwritten_columns(job: Job, detection: Detection, sample: Sequence[pa.RecordBatch]) -> Detection:
    """The detection with those columns of the sample among the unused whose names the options of the job take."""
    added = added_columns(job) - {*detection.used, *detection.unused}
    names = dict.fromkeys(name for batch in sample for name in batch.schema.names if name in added)
    return replace(detection, unused=(*detection.unused, *names)) if names else detection


def kept_notes(job: Job, detection: Detection) -> Iterator[str]:
    """What the user must hear of columns that `--keep all` leaves out, as far as the sample has them.

    Raises UsageError for a column that was asked for by its name.
    """
    added = added_columns(job)
    if job.columns.keep != "all":
        for name in job.columns.keep:
            if name in added:
                raise UsageError(
                    f"the column `{name}` cannot be kept: the output needs the name",
                    hint=f"keep it under another name: {renamed(name)} --keep source_{name}",
                )
        return
    if lost := detection.unused:
        names, flags = ", ".join(f"`{name}`" for name in lost), " ".join(map(renamed, lost))
        yield f"`--keep all` leaves out {names}, since the output needs the names: keep them with {flags}"


def renamed(name: str) -> str:
    """The flag that gives a column another name."""
    return f"--map source_{name}={name}"
