"""The file of rejected rows: the one that `--rejects` names, or the one that an output has anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ... import sources, writers
from ...errors import DataProblem, OutputError, UsageError
from ...manifest import REJECTS, Manifest, Reject, Shard
from ...recipe import Recipe, Run
from ..conversion.fitting import OF_TEMPLATES, find_remedy
from ..conversion.job import Job
from ..planning.target import Target


def with_rejects(run: Run, target: Target, recipe: Recipe) -> Run:
    """Return how to run, with rejects beside a file (`x.jsonl`: `x.rejects.jsonl`) that skips bad rows.

    Raises OutputError if that file is there already.
    """
    name = rejects_beside(run, target, recipe)
    if target.kind != "file" or name is None:
        return run
    path = target.path.with_name(name)
    if path.exists() and not (run.overwrite or run.resume):
        raise OutputError(
            f"`{path}` exists, and the rejected rows would replace it",
            hint="name another file with `--rejects`, or replace it with `--overwrite`",
            code="output.exists",
        )
    return replace(run, rejects=path)


def rejects_beside(run: Run, target: Target, recipe: Recipe) -> str | None:
    """Return the name of the rejects beside the one file of a run; None if they go elsewhere, or there are none."""
    if run.rejects is not None or not target.is_file or recipe.on_error != "skip":
        return None
    stem = target.path.name.removesuffix("".join(target.path.suffixes)) or target.path.stem
    return f"{stem}.rejects.jsonl"


def kept_rejects(run: Run, target: Target, recipe: Recipe) -> Path | str | None:
    """Return the file of the rejects: of a folder, the one inside if there is no other."""
    if target.kind == "store-file" and (name := rejects_beside(run, target, recipe)):
        return f"{str(target).rpartition('/')[0]}/{name}"
    inside = f"{target}/{REJECTS}" if target.kind == "store" else target.path / REJECTS
    return run.rejects or (inside if target.kind in ("folder", "store") else None)


def check_rejects(path: Path | None) -> None:
    """Raise UsageError for a folder, a device or a pipe; remove what dead processes have left beside the file."""
    if path is not None and path.exists() and not path.is_file():
        raise UsageError(f"`{path}` is not a regular file", hint="choose another file for --rejects")
    if path is not None:
        writers.remove_abandoned_parts(path)


@contextmanager
def open_rejects(path: Path | None) -> Iterator[Callable[[Reject], None]]:
    """Yield a function that appends a reject to the file; without `path` it ignores them.

    The file is created with its first reject.
    """
    if path is None:
        yield lambda reject: None
        return
    with writers.RejectWriter(path) as writer:
        yield writer.add


def join_rejects(state: Path, shards: Sequence[Shard], path: Path | None) -> None:
    """Write the rejects of the shards staged in `state` to `path`, in order; without rejects an old file is emptied."""
    if path is None or not (path.exists() or any(shard.reject_sha256 for shard in shards)):
        return
    writers.write_rejects(state, shards, path)


def copy_published_rejects(folder: Path, manifest: Manifest, path: Path | None) -> None:
    """Copy the rejects of an output folder that an earlier run has published to `path`."""
    if path is None:
        return
    with writers.AtomicFile(path) as file:
        if manifest.rejects:
            writers.copy(folder / REJECTS, file)


def is_of_template(reject: Reject) -> bool:
    """Return whether a row was rejected because of the template."""
    return reject.code in OF_TEMPLATES


def first_of_template(state: Path, shards: Sequence[Shard]) -> Reject | None:
    """Return the first reject of the shards staged in `state` that is one because of the template."""
    for shard in shards:
        path = writers.rejects_path(state, shard.name)
        if path.exists() and any(f"reject.{code}" in shard.counts for code in OF_TEMPLATES):
            with path.open(encoding="utf-8") as lines:
                return next(filter(is_of_template, map(Reject.from_json, lines)), None)
    return None


def offer_remedy(problem: DataProblem, job: Job, reject: Reject | None) -> None:
    """Add to the hint what helps a row that the template rejected, as to the hint of a row that stops a run."""
    row = None if reject is None or reject.raw is None else sources.rejected_row(reject.raw, reject.csv)
    if reject is not None and row is not None and (remedy := find_remedy(reject.code, job, row, reject.file)):
        problem.hint = f"`{remedy}` adapts the data where it can; {problem.hint}"
