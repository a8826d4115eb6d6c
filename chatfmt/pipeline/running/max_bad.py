"""Fail a run that rejects more rows than `--max-bad` allows."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from ...errors import ALL_REJECTED, DataProblem
from ...manifest import Shard
from ...recipe import Recipe
from ...stores import shown
from ..conversion.row_counts import sum_counters


def check_max_bad_so_far(recipe: Recipe, shards: Sequence[Shard], rejects: Path | None) -> None:
    """Raise DataProblem as soon as a limit in rows is exceeded; a percentage can only be judged at the end."""
    if not recipe.max_bad.endswith("%"):
        check_max_bad(recipe, shards, rejects=rejects)


def check_max_bad(
    recipe: Recipe, shards: Sequence[Shard], *, rejects: Path | None = None, resumable: bool = True
) -> None:
    """Raise DataProblem if more rows were rejected than `--max-bad` allows, or all of them; `rejects` has them."""
    rejected, read = sum(shard.rejected for shard in shards), sum(shard.rows_in for shard in shards)
    limit = recipe.max_bad
    is_share = limit.endswith("%")
    allowed = ceil(float(limit[:-1]) * read / 100) if is_share else float(limit)
    if rejected <= allowed and (not rejected or rejected < read):
        return
    reasons = ", ".join(f"{count} {code}" for code, count in sum_counters(shards, "reject").items())
    where = (f"they are in `{shown(rejects)}`; " if rejects else "") + "`chatfmt check` lists them"
    if rejected == read:
        all_rows = "the only row was" if read == 1 else f"all {read} rows were"
        raise DataProblem(f"{all_rows} rejected: {reasons}", hint=where, code=ALL_REJECTED)
    flags = f"--max-bad {rejected if is_share else 'N'}{' --resume' if resumable else ''}"
    raised = f"{flags} {'accepts them' if is_share else 'raises the limit'}"
    raise DataProblem(
        f"{rejected} of {read} rows {'was' if rejected == 1 else 'were'} rejected, but `--max-bad` allows {limit}: "
        f"{reasons}",
        hint=f"{where}; {raised}{' and keeps what is done' if resumable else ''}",
    )
