"""A plan carried out: tasks to an executor, shards to their place, the manifest last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict, replace

from ... import __version__, executors, render, writers
from ...errors import DataProblem, RowError, UsageError
from ...executors import cores
from ...manifest import DATA, REJECTS, Manifest, Reject, Shard
from ...recipe import Recipe, required
from ...render.safety.control_tokens import control_literals
from ...writers import OutputFolder, RejectWriter, SingleFile, Stream
from ..conversion.row_counts import RowCounts, counted
from ..conversion.task import run_missing, run_task, to_reject
from ..planning.inputs import files_of
from ..planning.plan import Plan, plan
from ..planning.scratch import Scratch
from ..planning.target import STDOUT, Target, target_of
from ..reorder.gather import first_tasks, gathered
from .progress import OnProgress, Progress
from .stdin_stdout import convert_piped
from .stream import Piece, Streaming, streamed


class Summary(Struct, frozen=True):
    """What a conversion did, for people and for machines. `rows_in + added` is the sum of the other five counts."""

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
    """What the template left out of some rows, by design or as `--allow-loss` says."""
    notes: Sequence[str] = ()
    complete: bool = False
    """Whether the output was there already, finished by an earlier run."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, keys in order."""
        return {"schema": 1, **asdict(self)}


def convert(
    recipe: Recipe,
    out: Path | str | None = None,
    *,
    executor: str = "processes",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    rejects: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Convert what the recipe names and write it to `out`: a folder of shards, one file, or stdout (None, `-`).

    Same recipe and input, same bytes, whatever the executor and the workers. A folder or file appears whole or not at
    all; an interrupted run is continued with `resume`.

    Raises ChatfmtError: UsageError, InputError, RowError for the first bad row (unless `on_error` is `skip`),
    DataProblem over the budget `max_bad`, OutputError, TemplateError.
    """
    required(recipe, "convert")
    if workers is not None and workers < 1:
        raise UsageError(f"`workers={workers}` is no number of processes", hint="workers=2, or none for one a core")
    target = target_of(out, recipe.format, recipe.compression)
    if is_piped(recipe, target):
        return pipe(recipe, target, rejects)
    many = workers or cores()
    with Scratch() as scratch:
        return carry_out(
            plan(recipe, target, scratch, executor=executor, workers=many),
            executor=executor,
            workers=many,
            resume=resume,
            overwrite=overwrite,
            rejects=rejects,
            on_progress=on_progress or (lambda rows: None),
        )


def is_piped(recipe: Recipe, target: Target) -> bool:
    """Whether rows go from stdin straight to a stream."""
    at_once = not recipe.reorders_rows and not recipe.from_rejects
    return at_once and target.kind == "stream" and [spec.source for spec in recipe.source] == ["-"]


def pipe(
    recipe: Recipe, target: Target, rejects: Path | None, on_note: Callable[[str], None] = lambda note: None
) -> Summary:
    """Convert stdin to stdout; see `piped`."""
    check_rejects(rejects)
    counts, stream = RowCounts(), open_stream(target)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        on_note(text)

    with reject_file(rejects) as refuse:
        skip = partial(refuse_row, refuse) if recipe.on_error == "skip" else None
        convert_piped(recipe, target, stream, skip, counts, note)
    return settle(recipe, counts, stream, notes)


def carry_out(
    plan: Plan,
    *,
    executor: str,
    workers: int,
    resume: bool = False,
    overwrite: bool = False,
    rejects: Path | None = None,
    on_progress: OnProgress = lambda rows: None,
) -> Summary:
    """Do what the plan says; see `convert`."""
    check_place(plan, rejects)
    run = executors.executor(executor)
    if plan.target.kind == "stream":
        stream = open_stream(plan.target)
        if plan.recipe.reorders_rows:
            return to_stream_gathered(plan, stream, run, workers, rejects, on_progress)
        return to_stream(plan, stream, rejects, on_progress)
    if plan.target.kind == "file":
        return to_file(plan, run, workers, rejects, on_progress, resume=resume, overwrite=overwrite)
    return to_folder(plan, run, workers, rejects, on_progress, resume=resume, overwrite=overwrite)


def check_place(plan: Plan, rejects: Path | None) -> None:
    """Refuse an output that is one of the inputs, also through links; raises UsageError."""
    check_rejects(rejects)
    found = {Path(file.uri).resolve() for part in plan.parts for file in files_of(part.source)}
    rejected = {Path(spec.source).resolve() for spec in plan.recipe.source if plan.recipe.from_rejects}
    if rejects is not None and rejects.resolve() in found | rejected:
        raise UsageError(f"`{rejects}` is an input", hint="choose another file for --rejects")
    if plan.target.kind == "stream":
        return
    out = plan.target.path.resolve()
    inside = {out / DATA: found, out: rejected} if plan.target.kind == "folder" else {}
    if out in found | rejected or any(folder in place.parents for folder in inside for place in inside[folder]):
        raise UsageError(f"the output `{plan.target.path}` is its own input", hint="choose another OUT")
    if rejects is not None and rejects.resolve() == out:
        raise UsageError(f"`{rejects}` is the output", hint="choose another file for --rejects")


def check_rejects(path: Path | None) -> None:
    """Refuse a file of rejects that cannot be one; raises UsageError for a folder, a device or a pipe."""
    if path is not None and path.exists() and not path.is_file():
        raise UsageError(f"`{path}` is not a regular file", hint="choose another file for --rejects")


def to_folder(
    plan: Plan,
    run: executors.Executor,
    workers: int,
    rejects: Path | None,
    on_progress: OnProgress,
    *,
    resume: bool,
    overwrite: bool,
) -> Summary:
    """A folder of shards with its card and manifest."""
    with OutputFolder.open(plan.target.path, plan.fingerprint, resume=resume, overwrite=overwrite) as folder:
        if folder.complete is not None:
            keep_published(plan.target.path, folder.complete, rejects)
            return to_summary(plan, folder.complete.shards, complete=True)
        shards = all_shards(plan, folder.state, run, workers, on_progress, rejects)
        manifest = to_manifest(plan, shards)
        schema = plan.parts[0].job.schema if plan.parts else None
        rendered = plan.template is not None
        folder.commit(manifest, writers.card(manifest, schema, special_tokens_in_text=rendered))
    return to_summary(plan, shards)


def to_file(
    plan: Plan,
    run: executors.Executor,
    workers: int,
    rejects: Path | None,
    on_progress: OnProgress,
    *,
    resume: bool,
    overwrite: bool,
) -> Summary:
    """One file, its parts staged beside it and joined at the end."""
    target = plan.target
    with SingleFile.open(target.path, plan.fingerprint, resume=resume, overwrite=overwrite) as file:
        shards = all_shards(plan, file.state, run, workers, on_progress, rejects)
        whole = file.commit(shards, target.format, target.compression)
    return to_summary(plan, shards, size=whole.bytes)


def all_shards(
    plan: Plan, state: Path, run: executors.Executor, workers: int, on_progress: OnProgress, rejects: Path | None
) -> list[Shard]:
    """Every shard in order: those an earlier try left whole, and those that are made now; then the rejects, if asked.

    Raises DataProblem over the budget; the rejects so far are kept then, too.
    """
    tasks, folder = first_tasks(plan, state)
    made: list[Shard] = []
    progress, found = Progress(on_progress), writers.finished(folder, plan.fingerprint)
    try:
        with closing(run_missing(run_task, tasks, found, run, workers, progress.on_position)) as shards:
            for shard in shards:
                made.append(shard)
                progress.ended(shard)
                check_count(plan.recipe, made)
        check_budget(plan.recipe, made)
    except DataProblem:
        keep_rejects(folder, made, rejects)
        raise
    keep_rejects(folder, made, rejects)
    return made if folder == state else gathered(plan, state, made, run, workers)


def keep_published(out: Path, manifest: Manifest, path: Path | None) -> None:
    """Write the rejects of a folder that was complete already to the file that the user named."""
    if path is not None:
        with writers.AtomicFile(path) as file:
            if manifest.rejects:
                writers.copy(out / REJECTS, file)


def keep_rejects(state: Path, shards: Sequence[Shard], path: Path | None) -> None:
    """Write the rejects of the shards to the file that the user named, in order."""
    if path is None:
        return
    with writers.AtomicFile(path) as file:
        for shard in shards:
            if shard.reject_sha256:
                writers.copy(writers.rejects_path(state, shard.name), file)


def to_stream(plan: Plan, stream: Stream, rejects: Path | None, on_progress: OnProgress) -> Summary:
    """Rows to a stream as they come: constant memory, no promise of being whole."""
    counts = RowCounts()
    with reject_file(rejects) as refuse:
        for part in plan.parts:
            asked = Streaming(part.job, part.shards, plan.target.format, plan.target.compression)
            with closing(streamed(asked)) as pieces:
                counts.add(passed_on(pieces, stream, refuse, partial(further, on_progress, counts.read)))
    return settle(plan.recipe, counts, stream, plan.notes)


def refuse_row(refuse: Callable[[Reject], None], error: RowError, raw: bytes) -> None:
    """Give a row that was left out to `refuse`."""
    refuse(to_reject(error, raw))


def further(on_progress: OnProgress, before: int, rows: int) -> None:
    """Report rows that come after others."""
    on_progress(before + rows)


def passed_on(
    pieces: Iterable[Piece], stream: Stream, refuse: Callable[[Reject], None], on_progress: OnProgress
) -> RowCounts:
    """Write the pieces of a stream where they belong; their counts at the end."""
    counts = RowCounts()
    for piece in pieces:
        for reject in piece.rejects:
            refuse(reject)
        stream.write(piece.data)
        stream.flush()
        counts = piece.counts
        on_progress(counts.read)
    return counts


def to_stream_gathered(
    plan: Plan, stream: Stream, run: executors.Executor, workers: int, rejects: Path | None, on_progress: OnProgress
) -> Summary:
    """Rows to a stream once all of them are known; until then they wait in a temporary folder."""
    with Scratch() as scratch:
        writers.prepare(scratch.folder, plan.fingerprint)
        shards = all_shards(plan, scratch.folder, run, workers, on_progress, rejects)
        for shard in shards:
            writers.copy(writers.staged_path(scratch.folder, shard.name), stream)
        stream.flush()
    return to_summary(plan, shards)


def open_stream(target: Target) -> Stream:
    """The stream of a target: stdout, or a device or named pipe."""
    if target.path == STDOUT:
        return Stream.stdout()
    return Stream(target.path.open("wb"), str(target.path))


def settle(recipe: Recipe, counts: RowCounts, stream: Stream, notes: Sequence[str]) -> Summary:
    """The summary of what went to a stream; raises DataProblem over the budget."""
    counts.check_balance()
    shard = Shard(name="-", bytes=stream.bytes, **counts.to_shard())
    check_budget(recipe, [shard], resumable=False)
    return summary_of([shard], "-", notes)


class reject_file:
    """A function that writes rejects to a file, or nowhere; there is no file without a reject."""

    def __init__(self, path: Path | None) -> None:
        self._writer = RejectWriter(path) if path is not None else None

    def __enter__(self) -> Callable[[Reject], None]:
        return (lambda reject: None) if self._writer is None else self._writer.add

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(*error)


def check_count(recipe: Recipe, shards: Iterable[Shard]) -> None:
    """Stop early where a budget in rows is overdrawn already; raises DataProblem."""
    if not recipe.max_bad.endswith("%"):
        check_budget(recipe, list(shards))


def check_budget(recipe: Recipe, shards: Sequence[Shard], *, resumable: bool = True) -> None:
    """Raises DataProblem where more rows were rejected than `--max-bad` allows, or all of them."""
    bad, read = sum(shard.rejected for shard in shards), sum(shard.rows_in for shard in shards)
    limit = recipe.max_bad
    allowed = float(limit[:-1]) * read / 100 if limit.endswith("%") else float(limit)
    if bad > allowed or (bad and bad == read):
        reasons = ", ".join(f"{count} {code}" for code, count in counted(shards, "reject").items())
        if bad == read:
            raise DataProblem(f"all of the {read} rows were rejected: {reasons}", hint="`chatfmt check` lists them")
        kept = ", and --resume keeps what is done" if resumable else ""
        raise DataProblem(
            f"{bad} of {read} rows were rejected, and `--max-bad` allows {limit}: {reasons}",
            hint=f"`chatfmt check` lists them; --max-bad raises the budget{kept}",
        )


def to_manifest(plan: Plan, shards: Sequence[Shard]) -> Manifest:
    """The manifest of a folder, to be completed by its commit.

    It tells which engine renders, not how many rows each way took: that depends on what a process had seen before.
    """
    template = plan.template
    choice = render.choose_engine(template, plan.parts[0].job.options) if template else None
    return Manifest(
        fingerprint=plan.fingerprint,
        shards=tuple(map(without_engine, shards)),
        recipe=plan.recipe.plain(),
        sources=(
            *({"id": part.source.dataset_id or part.source.shown, "revision": part.source.revision,
               "subset": part.source.subset, "licence": part.source.licence, "dialect": part.job.dialect}
              for part in plan.parts),
            *map(dict, plan.files),
        ),
        template={"name": template.name, "sha256": template.sha256, "origin": template.origin,
                  "revision": template.revision, "add_special_tokens": False, **escaped(plan)} if template else {},
        engine={"name": choice.engine, "reason": choice.reason, "isolation": isolation(shards)} if choice else {},
        chatfmt=__version__,
    )  # fmt: skip


def escaped(plan: Plan) -> dict[str, Any]:
    """The tokens that were escaped in what people wrote, so that the way back is known from the output alone."""
    asked = plan.template is not None and plan.recipe.control_tokens == "escape"
    return {"escaped_tokens": list(control_literals(plan.template))} if asked and plan.template else {}


def isolation(shards: Sequence[Shard]) -> str:
    """The level of the lock that the template ran behind, `none` in this process."""
    levels = [name.removeprefix("isolation: ") for name in counted(shards, "engine") if name.startswith("isolation: ")]
    return ", ".join(levels) or "none"


def without_engine(shard: Shard) -> Shard:
    """The shard without what depends on the way its rows were rendered."""
    counts = {name: count for name, count in shard.counts.items() if not name.startswith(("engine.", "left_out."))}
    return replace(shard, counts=counts)


def to_summary(plan: Plan, shards: Sequence[Shard], *, size: int | None = None, complete: bool = False) -> Summary:
    """What the shards of a plan together say."""
    made = summary_of(shards, str(plan.target.path), plan.notes)
    return replace(made, bytes=made.bytes if size is None else size, complete=complete)


def summary_of(shards: Sequence[Shard], out: str, notes: Sequence[str]) -> Summary:
    """The sums over the shards."""
    splits: Counter[str] = Counter()
    for shard in shards:
        splits[shard.split] += shard.rows
    names = ("rows_in", "rows", "rejected", "filtered", "duplicates", "added", "merged", "bytes")
    return Summary(
        **{name: sum(getattr(shard, name) for shard in shards) for name in names},
        shards=len(shards),
        out=out,
        splits=dict(splits),
        changes=counted(shards, "change"),
        findings=counted(shards, "finding"),
        reasons=counted(shards, "reject"),
        engine=counted(shards, "engine"),
        left_out=tuple(counted(shards, "left_out")),
        notes=notes,
    )
