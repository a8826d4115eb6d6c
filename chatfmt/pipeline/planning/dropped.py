"""Refuse a path of `--drop` that would be written all the same, and one that names nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...dialects.kit.columns import records_of
from ...errors import UsageError
from ...field_path import top_level
from ...recipe import Recipe
from ...schema import TRAIN_KEYS
from ..conversion.job import Job
from ..conversion.output_columns import columns_of_turns
from ..ledger.ledger import PRINTED, turn_keys
from .left_behind import read_sample


def check_dropped_paths(recipe: Recipe, job: Job, sample: Sequence[pa.RecordBatch]) -> None:
    """Raise UsageError for a path of `--drop` inside a column that is written whole, or that no sampled row has."""
    columns = dict.fromkeys(name for batch in sample for name in batch.schema.names if not name.startswith("#"))
    for path in () if recipe.groups_rows else recipe.drop:
        column = top_level(path, columns)
        if column == path or "." not in path:
            continue
        keys = [step.partition("[")[0] for step in path.removeprefix(column).split(".")[1:]]
        if column in job.columns.keep or (job.columns.keep == "all" and column in {*columns} - job.ledger.used):
            _refuse_inside_kept(job, path, column)
        elif column in columns_of_turns(job):
            _check_turns(job, path, column, keys, sample)
        else:
            _check_keys([record.get(column) for batch in sample for record in records_of(batch)], path, keys)


def _refuse_inside_kept(job: Job, path: str, column: str) -> None:
    whole = f"--drop {column} leaves all of it behind" if job.columns.keep == "all" else f"leave out --keep {column}"
    raise UsageError(
        f"`--drop {path}` is inside the column `{column}`, which --keep writes whole",
        hint=f"{whole}; --map NAME={column}.KEY --keep NAME writes one value of it",
    )


def _check_turns(job: Job, path: str, column: str, keys: Sequence[str], sample: Sequence[pa.RecordBatch]) -> None:
    """Raise UsageError for a path inside a key that is written whole with its turn."""
    if len(keys) < 2 or keys[0] in {*PRINTED, *TRAIN_KEYS} or job.ledger.printed is not None:
        return
    if any(keys[0] in turn_keys(conversations) for conversations in read_sample(job, sample)):
        raise UsageError(
            f"`--drop {path}` is inside the key `{keys[0]}`, which is written whole with its turn",
            hint=f"--drop {column}.{keys[0]} leaves all of it behind",
        )


def _check_keys(values: Sequence[Any], path: str, keys: Sequence[str]) -> None:
    """Raise UsageError if no value has such keys; text may hold JSON with any keys."""
    for key in keys:
        values = [item for value in values for item in (value if isinstance(value, list) else [value])]
        if key == "*" or any(isinstance(value, str) and value.lstrip()[:1] in ("[", "{") for value in values):
            return
        names = {name for value in values if isinstance(value, Mapping) for name in value}
        if key not in names and any(value is not None for value in values):
            there = f"the keys there are {', '.join(f'`{name}`' for name in sorted(names))}" if names else ""
            raise UsageError(f"no sampled row has `{path}`, which --drop names", hint=there)
        values = [value[key] for value in values if isinstance(value, Mapping) and key in value]
