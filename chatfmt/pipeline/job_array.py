"""A conversion whose tasks run one by one, on machines that share the disk (job arrays), to the bytes of `convert`.

write_plan ──▶ STATE/plan.json ──▶ run_part 1/N … N/N, at once, again, in any order ──▶ commit

The plan is plain JSON: the recipe, where the output goes, how the input is cut, the schema, and a hash of all that.
What follows from these (dialect, template, jobs) is found again by each part and held to the plan's fingerprint.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import asdict, replace

from .. import executors, writers
from ..errors import InputError, OutputError, RecipeError, UsageError
from ..manifest import MANIFEST, STATE, Manifest, fingerprint, read_manifest
from ..recipe import Recipe, SourceSpec
from ..render.template.chat_template import ChatTemplate
from ..sources import InputSplit, Source, SourceFile
from .conversion.job import Task
from .conversion.task import run_missing, run_task
from .planning.inputs import SourceReader, files_of, hashes
from .planning.plan import Part, Plan, has_nulls, load_template, of_schema, run_fingerprint, to_job
from .planning.scratch import Scratch
from .planning.target import Target
from .reorder.gather import first_tasks
from .running.progress import OnProgress, Progress
from .running.run import Summary, carry_out, check_place, summary_of, to_summary

VERSION = 1
AGAIN = "make a new plan with `chatfmt plan … --overwrite`"
SHOWN = 3
"""Names of missing shards in a message."""


class Cut(Struct, frozen=True):
    """A source and its shards, as they lie in the file of a plan."""

    source: Source
    shards: tuple[Annotated[tuple[InputSplit, ...], msgspec.Meta(min_length=1)], ...]


class Hashed(Struct, frozen=True):
    """An input file as it was when the plan was made."""

    file: str
    bytes: int
    xxh3_128: str


Stamp = tuple[int, int]


class Written(Struct, frozen=True):
    """What the file of a plan says; `stamps` by the uri of a file, `schema` the base64 of its Arrow message."""

    version: Literal[1]
    fingerprint: str
    recipe: Mapping[str, Any]
    target: Target
    names: tuple[str, ...]
    files: tuple[Hashed, ...]
    stamps: Mapping[str, Stamp | None]
    sources: tuple[Cut, ...]
    schema: str | None
    notes: tuple[str, ...]


def write_plan(
    plan: Plan, scratch: Scratch, *, resume: bool = False, overwrite: bool = False, copy: Path | None = None
) -> Path:
    """The file of the plan, in the output, which is made ready for its parts; also written to `copy`, if given.

    What lies in `scratch` is moved into the output. Raises UsageError for a stream, OutputError as `convert` does.
    """
    if plan.target.kind == "stream":
        raise UsageError("the parts of a plan need a place to write to", hint="name a folder or a file with -o")
    check_place(plan, None)
    with opened(plan, resume=resume, overwrite=overwrite) as place:
        if getattr(place, "complete", None):
            raise OutputError(f"`{plan.target.path}` is complete already", hint="replace it with `--overwrite`")
        kept = moved(plan, scratch, writers.spool_folder(place.state))
        first_tasks(kept, place.state)
        text = to_text(kept).encode()
        for path in (writers.plan_path(place.state), *([copy] if copy else [])):
            writers.write_whole(path, text)
    return writers.plan_path(place.state)


def opened(plan: Plan, *, resume: bool, overwrite: bool) -> writers.OutputFolder | writers.SingleFile:
    """The output of the plan, locked."""
    kind = writers.OutputFolder if plan.target.kind == "folder" else writers.SingleFile
    return kind.open(plan.target.path, plan.fingerprint, resume=resume, overwrite=overwrite)


def moved(plan: Plan, scratch: Scratch, folder: Path) -> Plan:
    """The plan with its temporary files in `folder`, and with absolute paths."""
    if scratch.made:
        writers.make_folder(folder)
        for path in sorted(scratch.folder.iterdir()):
            shutil.move(path, folder / path.name)
    place = absolute(lambda path: folder / path.name if path.parent == scratch.folder else path)
    return replace(plan, target=replace(plan.target, path=plan.target.path.absolute()), parts=tuple(
        replace(part, source=at(part.source, place), shards=tuple(
            tuple(replace(split, uri=place(split.uri)) for split in shard) for shard in part.shards
        ))
        for part in plan.parts
    ))  # fmt: skip


def absolute(place: Callable[[Path], Path]) -> Callable[[str], str]:
    """A function from the place of a file, if it is local, to its new place."""
    return lambda uri: uri if "://" in uri else str(place(Path(uri)).absolute())


def at(source: Source, place: Callable[[str], str]) -> Source:
    """The source with its files in other places."""
    splits = {
        split: tuple(replace(file, uri=place(file.uri)) for file in files) for split, files in source.splits.items()
    }
    return replace(source, splits=splits)


def to_text(plan: Plan) -> str:
    """The file of the plan."""
    cuts = tuple(Cut(part.source, part.shards) for part in plan.parts)
    schema = plan.parts[0].job.schema if plan.parts else None
    data = {
        "version": VERSION,
        "fingerprint": plan.fingerprint,
        "recipe": plan.recipe.plain(),
        "target": msgspec.to_builtins(plan.target, enc_hook=str),
        "names": list(plan.names),
        "files": [dict(file) for file in plan.files],
        "stamps": {file.uri: stamp(file) for part in plan.parts for file in files_of(part.source)},
        "sources": msgspec.to_builtins(cuts, enc_hook=str),
        "schema": None if schema is None else base64.b64encode(schema.serialize().to_pybytes()).decode(),
        "notes": list(plan.notes),
    }
    return json.dumps({**data, "sha256": fingerprint(data)}, ensure_ascii=False, indent=1) + "\n"


def stamp(file: SourceFile) -> Stamp | None:
    """Size and time of change of a local file: as long as they stay, its content is taken to stay."""
    try:
        found = Path(file.uri).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def find_plan(place: Path) -> Path:
    """The file of the plan that `place` names: itself, or the output that it is for. Raises OutputError."""
    for path in (writers.plan_path(place / STATE), writers.plan_path(writers.staging_folder(place.resolve()))):
        if path.is_file():
            return path
    if place.is_file():
        return place
    raise OutputError(f"there is no plan in `{place}`", hint=f"chatfmt plan SOURCE … -o {place}", code="output.plan")


def read_data(path: Path) -> tuple[Recipe, Written]:
    """The recipe in the file of a plan, and all of it; raises InputError where it was changed or is none."""
    try:
        data = json.loads(path.read_bytes())
        digest = data.pop("sha256")
        written = msgspec.convert(data, Written, dec_hook=lambda kind, value: kind(value))
        recipe = Recipe(**written.recipe)
        shards = sum(len(cut.shards) for cut in written.sources)
        known = len(recipe.source) == len(written.sources) and len(written.names) == shards
        good = digest == fingerprint(data) and known
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RecipeError):
        good = False
    if not good:
        raise no_plan(path)
    return recipe, written


def no_plan(path: Path) -> InputError:
    return InputError(f"`{path}` is no plan of this chatfmt, or was changed after it was written", hint=AGAIN)


def read_plan(path: Path) -> tuple[Plan, Mapping[str, Stamp | None]]:
    """The plan of a file, and the stamps of its input files.

    Raises InputError where the file was changed, OutputError where what the plan was made of gives another plan now.
    """
    recipe, data = read_data(path)
    target, files = data.target, tuple(map(asdict, data.files))
    check_sizes(data.sources, path)
    template = load_template(recipe)
    cuts = zip(recipe.source, data.sources, strict=True)
    parts = tuple(to_part(recipe, spec, cut, template, target) for spec, cut in cuts)
    now = run_fingerprint(recipe, parts, template, files, target)
    if now != data.fingerprint:
        raise changed(path, "its template, its options or chatfmt")
    plan = Plan(recipe, target, parts, template, now, files, data.notes, data.names)
    return (plan if data.schema is None else of_schema(plan, read_schema(data.schema, path))), data.stamps


def read_schema(text: str, path: Path) -> pa.Schema:
    """The schema that the file of a plan holds; raises InputError."""
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (ValueError, OSError, pa.ArrowException):
        raise no_plan(path) from None


def check_sizes(cuts: Sequence[Cut], path: Path) -> None:
    """Refuse input files that are longer or shorter than they were; raises OutputError."""
    for file in (file for cut in cuts for file in files_of(cut.source)):
        if (found := stamp(file)) is not None and found[0] != file.size:
            raise changed(path, f"`{file.shown}`")


def to_part(recipe: Recipe, spec: SourceSpec, cut: Cut, template: ChatTemplate | None, target: Target) -> Part:
    """A source as it was cut, looked at again."""
    with Scratch() as scratch, closing(SourceReader(recipe, spec, scratch, cut.source)) as look:
        sample = look.sample()
    job, detection = to_job(recipe, sample, template, target, nulls=has_nulls(cut.source))
    return Part(cut.source, job, detection, cut.shards)


def changed(path: Path, what: str) -> OutputError:
    return OutputError(f"{what} changed since `{path}` was written", hint=AGAIN, code="output.fingerprint")


def check_files(plan: Plan, tasks: Sequence[Task], stamps: Mapping[str, Stamp | None], path: Path) -> None:
    """Refuse input files of these tasks that are not what they were; raises OutputError."""
    shown = {split.shown for task in tasks for split in task.inputs}
    used = [file for part in plan.parts for file in files_of(part.source) if file.shown in shown]
    suspect = [file for file in used if stamps.get(file.uri) is None or stamp(file) != stamps[file.uri]]
    for file, found in zip(suspect, hashes(suspect), strict=True):
        if found["xxh3_128"] not in [known["xxh3_128"] for known in plan.files if known["file"] == file.shown]:
            raise changed(path, f"`{file.shown}`")


def run_part(
    path: Path, index: int, count: int, *, executor: str = "processes", workers: int = 1,
    on_progress: OnProgress = lambda rows: None,
) -> Summary:  # fmt: skip
    """Do the tasks `index`, `index + count`, … of the plan, counted from 1; those that are done already are left alone.

    Parts may run at the same time. Raises UsageError for parts that there are not, and what `convert` raises.
    """
    if not 1 <= index <= count:
        raise UsageError(f"there is no part {index} of {count}", hint=f"parts are 1/{count} to {count}/{count}")
    plan, stamps = read_plan(path)
    state = state_of(plan.target)
    if writers.run_fingerprint(state) != plan.fingerprint:
        raise OutputError(f"`{plan.target.path}` does not wait for this plan", hint=AGAIN, code="output.fingerprint")
    lock = writers.Lock(state, shared=True)
    try:
        tasks, folder = first_tasks(plan, state)
        mine = tasks[index - 1 :: count]
        check_files(plan, mine, stamps, path)
        receipts = [writers.receipt(folder, task.name, plan.fingerprint) for task in mine]
        found = {shard.name: shard for shard in receipts if shard is not None}
        shards, progress = [], Progress(on_progress)
        for shard in run_missing(run_task, mine, found, executors.executor(executor), workers, progress.on_position):
            shards.append(shard)
            progress.ended(shard)
    finally:
        lock.release()
    return to_summary(plan, shards)


def state_of(target: Target) -> Path:
    """Where the run that writes the target keeps its work."""
    return target.path / STATE if target.kind == "folder" else writers.staging_folder(target.path.resolve())


def commit(
    out: Path, *, executor: str = "processes", workers: int = 1, rejects: Path | None = None,
    on_progress: OnProgress = lambda rows: None,
) -> Summary:  # fmt: skip
    """Publish the output of a plan whose parts are all done; rows that were to be compared are compared now.

    Raises OutputError that names what is missing, DataProblem over the budget.
    """
    if (out / MANIFEST).is_file() and not writers.plan_path(out / STATE).is_file():
        return published(out)
    path = find_plan(out)
    plan, _ = read_plan(path)
    tasks, folder = first_tasks(plan, state_of(plan.target))
    missing = [number for number, task in enumerate(tasks, 1) if not writers.receipt_path(folder, task.name).is_file()]
    if missing:
        raise not_all(path, [tasks[number - 1].name for number in missing], missing, len(tasks))
    done = carry_out(plan, executor=executor, workers=workers, resume=True, rejects=rejects, on_progress=on_progress)
    return replace(done, out=str(out)) if out.resolve() == plan.target.path.resolve() else done


def published(out: Path) -> Summary:
    """The summary of a folder that is complete, also where its commit was interrupted."""
    manifest: Manifest = read_manifest(out)
    with writers.OutputFolder.open(out, manifest.fingerprint, resume=True):
        return replace(summary_of(manifest.shards, str(out), ()), complete=True)


def not_all(path: Path, names: Sequence[str], numbers: Sequence[int], total: int) -> OutputError:
    """The error for shards that nobody wrote yet."""
    listed = ", ".join(f"`{name}`" for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return OutputError(
        f"{len(names)} of {total} shards are missing: {listed}{more}",
        hint=f"chatfmt run {path} --task {numbers[0]}/{total}",
        code="output.missing",
    )
