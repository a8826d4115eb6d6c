"""The file of rejected rows: the one that `--rejects` names, or the one that an output has anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ... import sources, writers
from ...errors import DataProblem, OutputError, UsageError
from ...manifest import REJECT_START, REJECTS, Manifest, Reject, Shard
from ...recipe import Run
from ...stores import Store, check_writable, shown, url_of
from ..conversion.fitting import OF_TEMPLATES, find_remedy
from ..conversion.job import Job
from ..planning.plan import Plan
from ..planning.scratch import Scratch
from ..planning.target import Target
from .resuming import work_folder

_NAME_ANOTHER = "name another file with `--rejects`, or replace it with `--overwrite`"


def with_rejects(plan: Plan, run: Run) -> Run:
    """Return how to run, with rejects beside the one file (`x.jsonl`: `x.rejects.jsonl`) of a run that skips bad rows.

    Raises OutputError if that file is there already.
    """
    if run.rejects is not None or not plan.target.is_file or plan.recipe.on_error != "skip":
        return run
    out = plan.target.path
    _, compression = writers.format_from_name(out.name) or ("", None)
    path = out.with_name(f"{Path(out.stem).stem if compression else out.stem}.rejects.jsonl")
    if exists(path) and not (run.overwrite or run.resume or is_begun(plan)):
        raise OutputError(
            f"`{shown(path)}` exists, and the rejected rows would replace it", hint=_NAME_ANOTHER, code="output.exists"
        )
    return replace(run, rejects=path)


def exists(path: Path) -> bool:
    """Return whether there is a file at a path or URL."""
    folder, _, name = (url_of(path) or "").rpartition("/")
    return Store(folder).has(name) if name else path.exists()


def is_begun(plan: Plan) -> bool:
    """Return whether the same run has begun to write to a store, where the same command continues it."""
    return plan.target.kind == "store-file" and work_folder(plan).exists()


def kept_rejects(run: Run, target: Target) -> str | None:
    """Return the path or URL of the rejects: of a folder, the one inside if there is no other."""
    if run.rejects is not None:
        return shown(run.rejects)
    return f"{target}/{REJECTS}" if target.kind in ("folder", "store") else None


def check_rejects(run: Run) -> None:
    """Raise UsageError for a folder, a device or a pipe, OutputError for a file that must not be replaced.

    Remove what dead processes have left beside the file.
    """
    path = run.rejects
    if path is not None and (url := url_of(path)):
        check_writable(url, is_file=True)
    elif path is not None and path.exists() and not path.is_file():
        raise UsageError(f"`{path}` is not a regular file", hint="choose another file for --rejects")
    elif path is not None:
        if path.exists() and not (run.overwrite or _holds_rejects(path)):
            text = f"`{path}` already exists and holds no rejects"
            raise OutputError(text, hint=_NAME_ANOTHER, code="output.exists")
        writers.remove_abandoned_parts(path)


def _holds_rejects(path: Path) -> bool:
    """Return whether a file is empty or begins with a reject of an earlier run, which another run replaces."""
    with path.open("rb") as file:
        start = file.read(len(REJECT_START))
    return start in (b"", REJECT_START)


@contextmanager
def file_to_write(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write: the path itself, or for a URL a temporary one, uploaded at the end.

    If nothing was written, the file at the URL is removed.
    """
    url = url_of(path)
    if url is None:
        yield path
        return
    folder, name = url.rsplit("/", 1)
    store = Store(folder)
    with Scratch() as scratch:
        local = scratch.folder / name
        yield local
        if local.exists() and local.stat().st_size:
            store.put(local, name)
        elif store.has(name):
            store.remove([name])


@contextmanager
def open_rejects(path: Path | None) -> Iterator[Callable[[Iterable[Reject]], None]]:
    """Yield a function that appends rejects to the file; without `path` it ignores them.

    The file is created with its first reject.
    """
    if path is None:
        yield lambda rejects: None
        return
    with file_to_write(path) as file, writers.RejectWriter(file) as writer:
        yield writer.write


def join_rejects(state: Path, shards: Sequence[Shard], path: Path | None) -> None:
    """Write the rejects of the shards staged in `state` to `path`, in order; without rejects an old file is emptied."""
    if path is None:
        return
    with file_to_write(path) as file:
        if file.exists() or any(shard.reject_sha256 for shard in shards):
            writers.write_rejects(state, shards, file)


def copy_published_rejects(folder: Path, manifest: Manifest, path: Path | None) -> None:
    """Copy the rejects of an output folder that an earlier run has published to `path`."""
    if path is None:
        return
    with file_to_write(path) as local, writers.AtomicFile(local) as file:
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
    raw = None if reject is None else reject.raw
    row = None if raw is None else sources.rejected_row(raw.kept, raw.csv)
    if reject is not None and row is not None and (remedy := find_remedy(reject.code, job, row, reject.source.file)):
        problem.hint = f"`{remedy}` adapts the data where it can; {problem.hint}"
