"""The figures of a dataset as plain data, as `chatfmt stats --json` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .... import executors
from ....recipe import Recipe, required
from ...planning.scratch import Scratch
from .aggregate import values
from .gather import Gathered, gather
from .groups import Groups


def stats(recipe: Recipe, *, by: str | None = None, workers: int | None = None) -> dict[str, Any]:
    """Return the figures of all rows as `chatfmt stats --json` prints them: `values` by name, and those of each source.

    With `by` there are also those of each value of a column. Bad rows are counted, not raised.

        >>> figures = chatfmt.stats(chatfmt.Recipe(source="tests/data/everyday.jsonl"))
        >>> figures["values"]["conversations"], figures["sources"][0]["roles"]["user"]
        (12, 16)

    Raises UsageError, InputError if a source cannot be read.
    """
    required(recipe, "stats")
    with Scratch() as scratch:
        found = gather(recipe, scratch, workers or executors.cores(), by=by)
    return to_json(found, values([each.figures for each in found], recipe.max_tokens))


def to_json(found: Sequence[Gathered], named: Mapping[str, float]) -> dict[str, Any]:
    """Return all figures as plain data: those by name in `values`, then each source."""
    return {"schema": 1, "values": dict(named), "sources": [source_to_json(each) for each in found]}


def source_to_json(found: Gathered) -> dict[str, Any]:
    """Return the figures of one source as plain data."""
    figures, counts = found.figures, found.figures.counts
    return {
        "source": found.source.shown,
        "dialect": None if found.plan is None else found.plan.job.dialect,
        "template": found.template,
        "rows": counts.read,
        "conversations": figures.conversations,
        "roles": dict(figures.roles.most_common()),
        **{name: lengths.to_json() if lengths.count else None for name, lengths in figures.lengths.items()},
        "trained": {"characters": figures.trained, "of": figures.rendered, "share": figures.trained_share},
        "scripts": dict(figures.scripts.most_common()),
        "duplicates": {"conversations": figures.repeats.repeated, "exact": figures.repeats.is_exact},
        "rejected": dict(counts.reasons),
        "findings": dict(counts.findings),
        "changes": dict(counts.changes),
        "examples": {
            code: [
                {
                    "file": one.at.file,
                    "row": one.at.row,
                    "line": one.at.line,
                    "message": one.at.message,
                    "detail": one.detail,
                }
                for one in examples
            ]
            for code, examples in figures.examples.items()
        },
        **({"by": groups_to_json(figures.groups)} if figures.groups else {}),
        "left_columns": list(counts.left_column),
        "left_keys": list(counts.left_key),
    }


def groups_to_json(groups: Groups) -> dict[str, Any]:
    """Return the figures of each value of a column as plain data."""
    return {
        "column": groups.column,
        "groups": [
            {
                "value": name,
                "conversations": group.conversations,
                **{length: dict(each.statistics()) for length, each in group.known.items()},
            }
            for name, group in groups.largest()
        ],
    }
