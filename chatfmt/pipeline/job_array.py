"""A conversion whose tasks run one by one on machines that share a disk (job arrays), with the output of `convert`.

write_plan ──▶ STATE/plan.json ──▶ run_part 1/N … N/N, in parallel, repeated, in any order ──▶ commit

The plan is plain JSON: the recipe, the target, the input splits, the schema, and a hash of all that. What follows from
these (dialect, template, jobs) is determined again by each part and compared with the fingerprint of the plan.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import asdict, replace

from .. import writers
from ..errors import InputError, OutputError, RecipeError, UsageError
from ..manifest import MANIFEST, STATE, Manifest, fingerprint, read_manifest
from ..recipe import Recipe, Run, SourceSpec
from ..render.template.chat_template import ChatTemplate
from ..sources import InputSplit, Source, SourceFile
from .conversion.job import Task
from .planning.fingerprint import run_fingerprint
from .planning.inputs import hash_files, open_source, source_files
from .planning.jobs import has_nulls, load_template, to_job
from .planning.plan import Plan, with_schema
from .planning.scratch import Scratch
from .planning.source_plan import SourcePlan
from .planning.target import Target
from .reorder.gather import first_tasks
from .running.progress import OnProgress, ignore_progress
from .running.resuming import state_folder
from .running.run import check_output, run_plan, run_shard_tasks
from .running.summary import Summary, summarise, summarise_plan

VERSION = 1
NEW_PLAN = "make a new plan with `chatfmt plan … --overwrite`"
SHOWN = 3
"""Maximum number of missing shards that an error names."""


class PlannedSource(Struct, frozen=True):
    """A source and the input splits of its shards, as stored in a plan file."""

    source: Source
    shards: tuple[Annotated[tuple[InputSplit, ...], msgspec.Meta(min_length=1)], ...]


class PlannedFile(Struct, frozen=True):
    """An input file as it was when the plan was made."""

    file: str
    bytes: int
    xxh3_128: str


Stamp = tuple[int, int]
"""Size and modification time of a file."""


class PlanFile(Struct, frozen=True):
    """The content of a plan file; `stamps` by the uri of a file, `schema` as the base64 of its Arrow message."""

    version: Literal[1]
    fingerprint: str
    recipe: Mapping[str, Any]
    target: Target
    names: tuple[str, ...]
    files: tuple[PlannedFile, ...]
    stamps: Mapping[str, Stamp | None]
    sources: tuple[PlannedSource, ...]
    schema: str | None
    notes: tuple[str, ...]


def write_plan(plan: Plan, scratch: Scratch, run: Run, copy: Path | None = None) -> Path:
    """Write the plan file into the output, prepare the output for its parts, and return the path of the file.

    The content of `scratch` is moved into the output. The file is also written to `copy`, if given. Raises UsageError
    for a stream, OutputError as `convert` does.
    """
    if plan.target.kind in ("stream", "hub"):
        where = "a stream" if plan.target.kind == "stream" else "the Hub"
        raise UsageError(f"a plan cannot write to {where}", hint="name a folder or a file with -o")
    check_output(plan, None)
    with open_output(plan, run) as output:
        if getattr(output, "complete", None):
            raise OutputError(f"`{plan.target.path}` is already complete", hint="replace it with `--overwrite`")
        kept = with_scratch_moved(plan, scratch, writers.spool_folder(output.state))
        first_tasks(kept, output.state)
        text = to_text(kept).encode()
        for path in (writers.plan_path(output.state), *([copy] if copy else [])):
            writers.write_atomic(path, text)
    return writers.plan_path(output.state)


def open_output(plan: Plan, run: Run) -> writers.OutputFolder | writers.SingleFile:
    """Open and lock the output of a plan."""
    kind = writers.OutputFolder if plan.target.kind == "folder" else writers.SingleFile
    return kind.open(plan.target.path, plan.fingerprint, resume=run.resume, overwrite=run.overwrite)


def with_scratch_moved(plan: Plan, scratch: Scratch, folder: Path) -> Plan:
    """Move the temporary files of a plan to `folder`; return the plan with absolute paths."""
    made = scratch.folder if scratch.files else None
    if made is not None:
        writers.make_folder(folder)
        for path in scratch.files:
            shutil.move(path, folder / path.name)

    def new_uri(uri: str) -> str:
        if "://" in uri:
            return uri
        path = Path(uri)
        if made is not None and path.is_relative_to(made):
            path = folder / path.relative_to(made)
        return str(path.absolute())

    return replace(plan, target=replace(plan.target, path=plan.target.path.absolute()), sources=tuple(
        replace(planned, source=with_uris(planned.source, new_uri), shards=tuple(
            tuple(replace(split, uri=new_uri(split.uri)) for split in shard) for shard in planned.shards
        ))
        for planned in plan.sources
    ))  # fmt: skip


def with_uris(source: Source, new_uri: Callable[[str], str]) -> Source:
    """Return the source with each file at its new URI."""
    splits = {
        split: tuple(replace(file, uri=new_uri(file.uri)) for file in files) for split, files in source.splits.items()
    }
    return replace(source, splits=splits)


def to_text(plan: Plan) -> str:
    """Return the text of the plan file."""
    planned = tuple(PlannedSource(source.source, source.shards) for source in plan.sources)
    schema = plan.sources[0].job.schema if plan.sources else None
    data = {
        "version": VERSION,
        "fingerprint": plan.fingerprint,
        "recipe": plan.recipe.plain(),
        "target": msgspec.to_builtins(plan.target, enc_hook=str),
        "names": list(plan.names),
        "files": [dict(file) for file in plan.files],
        "stamps": {file.uri: read_stamp(file) for source in plan.sources for file in source_files(source.source)},
        "sources": msgspec.to_builtins(planned, enc_hook=str),
        "schema": None if schema is None else base64.b64encode(schema.serialize().to_pybytes()).decode(),
        "notes": list(plan.notes),
    }
    return json.dumps({**data, "sha256": fingerprint(data)}, ensure_ascii=False, indent=1) + "\n"


def read_stamp(file: SourceFile) -> Stamp | None:
    """Return size and modification time of a local file; while they do not change, neither does its content."""
    try:
        found = Path(file.uri).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def find_plan(path: Path) -> Path:
    """Return the plan file at `path`, or of the output at `path`; raises OutputError."""
    for plan in (writers.plan_path(path / STATE), writers.plan_path(writers.staging_folder(path.resolve()))):
        if plan.is_file():
            return plan
    if path.is_file():
        return path
    raise OutputError(f"there is no plan in `{path}`", hint=f"chatfmt plan SOURCE … -o {path}", code="output.plan")


def read_plan_file(path: Path) -> tuple[Recipe, PlanFile]:
    """Return the recipe in a plan file, and all of its content; raises InputError if it is damaged or not a plan."""
    try:
        data = json.loads(path.read_bytes())
        digest = data.pop("sha256")
        content = msgspec.convert(data, PlanFile, dec_hook=lambda kind, value: kind(value))
        recipe = Recipe(**content.recipe)
        shards = sum(len(source.shards) for source in content.sources)
        consistent = len(recipe.read_apart) == len(content.sources) and len(content.names) == shards
        valid = digest == fingerprint(data) and consistent
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RecipeError):
        valid = False
    if not valid:
        raise invalid_plan(path)
    return recipe, content


def invalid_plan(path: Path) -> InputError:
    return InputError(f"`{path}` is not a plan of this version of chatfmt, or it was changed", hint=NEW_PLAN)


def read_plan(path: Path) -> tuple[Plan, Mapping[str, Stamp | None]]:
    """Return the plan in a file, and the stamps of its input files.

    Raises InputError if the file was changed, OutputError if planning again would not give the same plan.
    """
    recipe, content = read_plan_file(path)
    target, files = content.target, tuple(map(asdict, content.files))
    check_sizes(content.sources, path)
    template = load_template(recipe)
    pairs = zip(recipe.read_apart, content.sources, strict=True)
    sources = tuple(plan_again(recipe, spec, planned, template, target) for spec, planned in pairs)
    now = run_fingerprint(recipe, [(source.job, source.detection) for source in sources], template, files, target)
    if now != content.fingerprint:
        raise changed(path, "the template, the options or chatfmt")
    plan = Plan(recipe, target, sources, template, now, files, content.notes, content.names)
    if content.schema is not None:
        plan = with_schema(plan, read_schema(content.schema, path))
    return plan, content.stamps


def read_schema(text: str, path: Path) -> pa.Schema:
    """Return the schema in a plan file; raises InputError."""
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (ValueError, OSError, pa.ArrowException):
        raise invalid_plan(path) from None


def check_sizes(planned: Sequence[PlannedSource], path: Path) -> None:
    """Raise OutputError for input files whose size has changed."""
    for file in (file for source in planned for file in source_files(source.source)):
        if (found := read_stamp(file)) is not None and found[0] != file.size:
            raise changed(path, f"`{file.shown}`")


def plan_again(
    recipe: Recipe, spec: SourceSpec, planned: PlannedSource, template: ChatTemplate | None, target: Target
) -> SourcePlan:
    """Return the plan of a source with the shards that were planned, its dialect detected again."""
    with Scratch() as scratch, open_source(recipe, spec, scratch, planned.source) as reader:
        sample = reader.sample
    job, detection = to_job(recipe, sample, template, target, nulls=has_nulls(planned.source))
    return SourcePlan(planned.source, job, detection, planned.shards)


def changed(path: Path, what: str) -> OutputError:
    return OutputError(f"{what} changed since `{path}` was written", hint=NEW_PLAN, code="output.fingerprint")


def check_files(plan: Plan, tasks: Sequence[Task], stamps: Mapping[str, Stamp | None], path: Path) -> None:
    """Raise OutputError for input files of these tasks that have changed."""
    shown = {split.shown for task in tasks for split in task.inputs}
    used = [file for source in plan.sources for file in source_files(source.source) if file.shown in shown]
    suspect = [file for file in used if stamps.get(file.uri) is None or read_stamp(file) != stamps[file.uri]]
    for file, found in zip(suspect, hash_files(suspect), strict=True):
        if found["xxh3_128"] not in [known["xxh3_128"] for known in plan.files if known["file"] == file.shown]:
            raise changed(path, f"`{file.shown}`")


def run_part(path: Path, index: int, count: int, run: Run, on_progress: OnProgress = ignore_progress) -> Summary:
    """Run the tasks `index`, `index + count`, … of a plan, counted from 1; tasks that are done are not run again.

    Parts may run at the same time. Raises UsageError if there is no such part, and what `convert` raises.
    """
    if not 1 <= index <= count:
        raise UsageError(f"there is no part {index} of {count}", hint=f"parts are 1/{count} to {count}/{count}")
    plan, stamps = read_plan(path)
    state = state_folder(plan.target)
    if writers.run_fingerprint(state) != plan.fingerprint:
        raise OutputError(
            f"`{plan.target.path}` is not waiting for this plan", hint=NEW_PLAN, code="output.fingerprint"
        )
    lock = writers.Lock(state, shared=True)
    try:
        tasks, folder = first_tasks(plan, state)
        tasks = tasks[index - 1 :: count]
        check_files(plan, tasks, stamps, path)
        receipts = [writers.read_receipt(folder, task.name, plan.fingerprint) for task in tasks]
        finished = {shard.name: shard for shard in receipts if shard is not None}
        shards = list(run_shard_tasks(tasks, finished, run, on_progress))
    finally:
        lock.release()
    return summarise_plan(plan, shards)


def commit(out: Path, run: Run, on_progress: OnProgress = ignore_progress) -> Summary:
    """Publish the output of a plan whose parts are all done; reorder its rows first if the recipe asks for it.

    Raises OutputError that names the missing shards, DataProblem if too many rows were rejected.
    """
    if (out / MANIFEST).is_file() and not writers.plan_path(out / STATE).is_file():
        return summarise_published(out)
    path = find_plan(out)
    plan, _ = read_plan(path)
    tasks, folder = first_tasks(plan, state_folder(plan.target))
    missing = [number for number, task in enumerate(tasks, 1) if not writers.receipt_path(folder, task.name).is_file()]
    if missing:
        raise shards_missing(path, [tasks[number - 1].name for number in missing], missing, len(tasks))
    summary = run_plan(plan, dataclasses.replace(run, resume=True), on_progress)
    return replace(summary, out=str(out)) if out.resolve() == plan.target.path.resolve() else summary


def summarise_published(out: Path) -> Summary:
    """Return the summary of a folder that is complete, or whose commit was interrupted and is completed here."""
    manifest: Manifest = read_manifest(out)
    with writers.OutputFolder.open(out, manifest.fingerprint, resume=True):
        return replace(summarise(manifest.shards, str(out), ()), complete=True)


def shards_missing(path: Path, names: Sequence[str], numbers: Sequence[int], total: int) -> OutputError:
    """Return the error for shards that no part has written yet."""
    listed = ", ".join(f"`{name}`" for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    verb = "is" if len(names) == 1 else "are"
    return OutputError(
        f"{len(names)} of {total} shards {verb} missing: {listed}{more}",
        hint=f"chatfmt run {path} --task {numbers[0]}/{total}",
        code="output.missing",
    )
