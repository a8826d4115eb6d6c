"""The figures of a finished conversion: of the rows in its folder, and of those its manifest says were left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from .... import mapping, sources
from ....errors import ChatfmtError
from ....manifest import MANIFEST, REJECTS, Manifest, Reject, read_manifest
from ....recipe import Recipe, SourceSpec, renders
from ....render.safety.control_tokens import find_control_tokens
from ....render.template.chat_template import ChatTemplate
from ....sources import ParseOptions, Source
from ....turn_columns import lengths_of
from ...conversion.row_counts import sum_counters
from ...conversion.source_rows import column_names
from .aggregate import Example, Figures, as_list, shortened

BESIDE = ("assistant_spans", "num_tokens")
"""Columns beside the text from which figures are made, so that nothing is rendered or counted again."""
_KINDS = {"change": "changes", "finding": "findings", "left_column": "left_column", "left_key": "left_key",
          "reject": "reasons"}  # fmt: skip
_SUMS = {"rows_in": "read", "rejected": "rejected", "filtered": "filtered", "duplicates": "duplicates"}


def manifest_of(spec: SourceSpec) -> Manifest | None:
    """Return the manifest of a source that is the output of a conversion; None for any other source."""
    folder = Path(spec.source)
    return read_manifest(folder) if (folder / MANIFEST).is_file() else None


SELECTING = ("source", "split", "where", "limit", "skip", "seed", "allow_empty")
"""Keys of recipes that choose rows, and change none."""


def unchanged(recipe: Recipe) -> Manifest | None:
    """Return the manifest of the output that a recipe reads if it changes nothing of its rows; None for others."""
    if recipe != Recipe(**{key: getattr(recipe, key) for key in SELECTING}):
        return None
    return manifest_of(recipe.source[0])


def control_tokens(manifest: Manifest) -> Sequence[str]:
    """Return the control tokens of the template of a conversion; none if the template is no longer available."""
    name = manifest.recipe.get("template")
    with suppress(ChatfmtError):
        return find_control_tokens(ChatTemplate.load(str(name))) if renders(name) else ()
    return ()


def as_written(recipe: Recipe, spec: SourceSpec) -> tuple[Recipe, Source | None]:
    """Return the recipe that reads an output with the columns that it has; the source too if its rows are tokens."""
    source = sources.resolve(spec.source, split=spec.split or "all", options=ParseOptions(allow_empty=True))
    names = column_names(sources.sample(source, spec.split or "all", 100))
    changed = dataclasses.replace(
        recipe, source=(dataclasses.replace(spec, split=spec.split or "all"),),
        keep=(*recipe.keep, *(name for name in BESIDE if name in names)),
    )  # fmt: skip
    return changed, source if "input_ids" in names else None


def token_figures(source: Source, split: str | None) -> Figures:
    """Return the figures of rows of token ids: how many there are in each row, and the share that is trained."""
    figures = Figures()
    for shard in sources.plan_splits(source, split):
        for batch in (batch for part in shard for batch in sources.read(part, columns=None)):
            lists = {
                name: as_list(batch.column(name)) for name in ("input_ids", "labels") if name in batch.schema.names
            }
            ids = lists["input_ids"]
            figures.conversations += len(batch)
            figures.lengths["tokens"].add(lengths_of(ids))
            figures.repeats.add([digest or b"\0" * 16 for digest in mapping.value_hash(batch.column("input_ids"))])
            if "labels" in batch.schema.names:
                labels = np.asarray(as_list(batch.column("labels")).flatten())
                figures.rendered += len(ids.flatten())
                figures.trained += int(np.count_nonzero(labels >= 0))
    return figures


def add_manifest(figures: Figures, manifest: Manifest, folder: Path) -> None:
    """Add what a manifest says of rows that are not in the output, with examples from its rejects."""
    for kind, name in _KINDS.items():
        setattr(figures.counts, name, type(figures.counts.changes)(sum_counters(manifest.shards, kind)))
    for total, name in _SUMS.items():
        setattr(figures.counts, name, int(manifest.totals.get(total, 0)))
    for reject in _rejects(folder / REJECTS):
        raw = None if reject.raw is None else reject.raw.kept
        figures.example(reject.code, Example(reject.source, reject.detail, "", shortened(raw)))


def _rejects(path: Path) -> Iterator[Reject]:
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from map(Reject.from_json, file)
