"""The summary of a conversion: what was read, written, changed and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict, replace

from ...manifest import SUMS, Shard
from ...recipe import Recipe
from ...transforms import SOUGHT, is_off
from ...validation import flag_of
from ..conversion.output.schema import MIXED, TIMES, Types, merged_types, paths_to
from ..conversion.row_counts import sum_counters
from ..planning.plan import Plan
from ..reorder.selection import TEST


class Summary(Struct, frozen=True):
    """The result of a conversion. `rows_in + added = rows + rejected + filtered + duplicates + merged`."""

    rows_in: int = 0
    rows: int = 0
    rejected: int = 0
    filtered: int = 0
    duplicates: int = 0
    added: int = 0
    merged: int = 0
    bytes: int = 0
    shards: int = 0
    out: str = "-"
    splits: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    engine: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    """The content that the template left out of some rows, by design or because `--allow-loss` permits it."""
    left_columns: Sequence[str] = ()
    """The leaves of unused source columns, each with its type: `metadata.source (text)`."""
    left_keys: Sequence[str] = ()
    """The leaves inside used columns that are in no output: `messages[].lang (text)`."""
    packed: Mapping[str, int] = field(default_factory=dict)
    """The `conversations` of packed rows, their `tokens`, and how many tokens the rows have `room` for."""
    notes: Sequence[str] = ()
    rejects: str = ""
    """The file of the rejected rows; empty if there are none, or if they were not kept."""
    already_complete: bool = False
    """Whether an earlier run had finished the output, so that nothing was done."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data, keys in order."""
        return {"schema": 1, **asdict(self)}


def summarise_plan(
    plan: Plan,
    shards: Sequence[Shard],
    *,
    rejects: Path | str | None = None,
    size: int | None = None,
    already_complete: bool = False,
) -> Summary:
    """Return the summary of shards of a plan; `size` is the size of the output where it is not that of the shards."""
    late = late_notes(merged_types(shards), has_card=not plan.target.is_file)
    summary = summarise(shards, str(plan.target), (*plan.notes, *late))
    summary = with_last_notes(summary, plan.recipe)
    size = summary.bytes if size is None else size
    kept = str(rejects) if rejects and summary.rejected else ""
    return replace(summary, bytes=size, already_complete=already_complete, rejects=kept)


def with_last_notes(summary: Summary, recipe: Recipe) -> Summary:
    """Return the summary with notes on what is known at the end.

    That is a condition that no row met, each transform whose text was in no row, and an empty split.
    """
    if recipe.condition and summary.rows_in and summary.filtered == summary.rows_in:
        return replace(summary, notes=(*summary.notes, f"no row meets the condition `--where {recipe.condition}`"))
    splits = {**summary.splits, **({TEST: summary.splits.get(TEST, 0)} if recipe.test_fraction else {})}
    notes = [f"no row is in the split `{name}`" for name, rows in splits.items() if not rows and summary.rows]
    notes += [
        f"`{flag_of(name)} {value}` found no {sought}"
        for name, sought in SOUGHT.items()
        if (value := recipe.transforms.get(name)) and not is_off(name, value) and not summary.changes.get(name)
    ]
    return replace(summary, notes=(*summary.notes, *notes)) if summary.rows else summary


def late_notes(types: Types, *, has_card: bool = False) -> tuple[str, ...]:
    """Return the notes on JSON Lines that are known when all rows have been converted: what `datasets` misreads.

    A card declares the types, but `datasets` reads a column of text and other values in its own way all the same.
    """
    mixed = paths_to(MIXED, types)
    columns, keys = ([path for path in mixed if ("." in path) is inner] for inner in (False, True))
    declared = "write a folder (-o FOLDER), whose card declares the types"
    number = "`load_dataset` reads text such as `3` there as a number"
    found = [f"{listed(columns)} has text and other values: {number}, but not with --format parquet"] if columns else []
    if keys and not has_card:
        found.append(f"{listed(keys)} is text in some turns and not in others: {number}; {declared}")
    if (times := paths_to(TIMES, types)) and not has_card:
        found.append(f"every text of {listed(times)} looks like a time, and `load_dataset` reads it as one; {declared}")
    return tuple(found)


def listed(names: Sequence[str]) -> str:
    """Return names in words: `a` and `b`."""
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def summarise(shards: Sequence[Shard], out: str, notes: Sequence[str]) -> Summary:
    """Return the sums over the shards."""
    splits: Counter[str] = Counter()
    for shard in shards:
        splits[shard.split] += shard.rows
    return Summary(
        **{name: sum(getattr(shard, name) for shard in shards) for name in SUMS},
        shards=len(shards),
        out=out,
        splits=dict(splits),
        changes=sum_counters(shards, "change"),
        findings=sum_counters(shards, "finding"),
        reasons=sum_counters(shards, "reject"),
        engine=sum_counters(shards, "engine"),
        left_out=tuple(sum_counters(shards, "left_out")),
        left_columns=tuple(sum_counters(shards, "left_column")),
        left_keys=tuple(sum_counters(shards, "left_key")),
        packed=sum_counters(shards, "packed"),
        notes=notes,
    )
