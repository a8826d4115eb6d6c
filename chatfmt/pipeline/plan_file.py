"""The file of a plan, and whether it still holds when a part reads it.

The file is plain JSON: the recipe, the target, the template, the input splits, the schema, and a hash of all that. What
follows from these (dialect, jobs) is determined again by each part and compared with the fingerprint of the plan.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from .. import sources
from ..errors import ChatfmtError, InputError, OutputError, RecipeError
from ..executors.versions import Difference, difference, versions
from ..manifest import fingerprint
from ..recipe import Recipe, SourceSpec
from ..render.template.chat_template import ChatTemplate
from ..sources import InputSplit, Source, SourceFile
from ..stores import read_url, without_credentials
from .conversion.job import Task
from .planning.fingerprint import run_fingerprint
from .planning.inputs import open_source, without_unreadable
from .planning.jobs import has_nulls, to_job
from .planning.plan import Plan, with_schema
from .planning.scratch import Scratch
from .planning.source_plan import SourcePlan
from .planning.target import Target

VERSION = 1
NEW_PLAN = "make a new plan with `chatfmt plan … --overwrite`"


class PlannedFile(TypedDict):
    """An input file as it was when the plan was made."""

    file: str
    bytes: int
    xxh3_128: str


class PlannedSource(Struct, frozen=True):
    """A source, its files and the input splits of its shards, as stored in a plan file."""

    source: Source
    files: tuple[PlannedFile, ...]
    shards: tuple[Annotated[tuple[InputSplit, ...], msgspec.Meta(min_length=1)], ...]


class PlanFile(Struct, frozen=True):
    """The content of a plan file; `schema` is the base64 of its Arrow message, `folder` where the plan was made."""

    version: Literal[1]
    fingerprint: str
    versions: Mapping[str, str]
    recipe: Mapping[str, Any]
    folder: str
    target: Target
    template: ChatTemplate | None
    names: tuple[str, ...]
    sources: tuple[PlannedSource, ...]
    schema: str | None
    notes: tuple[str, ...]


def with_new_uris(plan: Plan, new_uri: Callable[[str], str]) -> Plan:
    """Return the plan with each file at its new URI."""
    return replace(plan, sources=tuple(
        replace(planned, source=with_uris(planned.source, new_uri), shards=tuple(
            tuple(replace(split, uri=new_uri(split.uri)) for split in shard) for shard in planned.shards
        ))
        for planned in plan.sources
    ))  # fmt: skip


def with_uris(source: Source, new_uri: Callable[[str], str]) -> Source:
    """Return the source with each file at its new URI; a file that was moved has another identity there."""

    def moved(file: SourceFile) -> SourceFile:
        uri = new_uri(file.uri)
        same = uri in (str(Path(file.uri).absolute()), sources.url_of_kept(file.uri))
        return replace(file, uri=uri, identity=file.identity if same else sources.file_identity(uri))

    splits = {split: tuple(map(moved, files)) for split, files in source.splits.items()}
    return replace(source, splits=splits, originals=tuple(map(moved, source.originals)))


def to_text(plan: Plan) -> str:
    """Return the text of the plan file."""
    planned = [{"source": one.source, "files": one.files, "shards": one.shards} for one in plan.sources]
    schema = plan.sources[0].job.schema if plan.sources else None
    data = {
        "version": VERSION,
        "fingerprint": plan.fingerprint,
        "versions": versions(),
        "recipe": plan.recipe.plain(),
        "folder": str(Path.cwd()),
        "target": msgspec.to_builtins(plan.target, enc_hook=str),
        "template": msgspec.to_builtins(plan.template, enc_hook=str),
        "names": list(plan.names),
        "sources": msgspec.to_builtins(planned, enc_hook=str),
        "schema": None if schema is None else base64.b64encode(schema.serialize().to_pybytes()).decode(),
        "notes": list(plan.notes),
    }
    return json.dumps({**data, "sha256": fingerprint(data)}, ensure_ascii=False, indent=1) + "\n"


def read_plan_file(path: Path | str) -> tuple[Recipe, PlanFile]:
    """Return the recipe in a plan file, and all of its content; raises InputError if it is damaged or not a plan."""
    try:
        data = json.loads(path.read_bytes() if isinstance(path, Path) else read_url(path) or b"")
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


def invalid_plan(path: Path | str) -> InputError:
    return InputError(f"`{path}` is not a plan of this version of chatfmt, or it was changed", hint=NEW_PLAN)


def read_plan(path: Path | str) -> Plan:
    """Return the plan in a file.

    Raises InputError if the file was changed, OutputError if planning again would not give the same plan.
    """
    recipe, content = read_plan_file(path)
    target, files = content.target, tuple(file for source in content.sources for file in source.files)
    template = content.template
    if found := difference(content.versions):
        raise other_versions(path, found)
    check_template(recipe, content, path)
    check_no_more_files(recipe, content, path)
    placed = with_tokenizer_of(recipe, content)
    try:
        pairs = zip(recipe.read_apart, content.sources, strict=True)
        sources = tuple(plan_again(placed, spec, planned, template, target) for spec, planned in pairs)
    except ChatfmtError:
        check_files(content.sources, path)
        raise
    now = run_fingerprint(placed, [(source.job, source.detection) for source in sources], template, files, target)
    if now != content.fingerprint:
        check_files(content.sources, path)
        raise changed(path, "the tokenizer or a plug-in")
    plan = Plan(recipe, target, sources, template, now, files, content.notes, content.names)
    if content.schema is not None:
        plan = with_schema(plan, read_schema(content.schema, path))
    return plan


def read_schema(text: str, path: Path | str) -> pa.Schema:
    """Return the schema in a plan file; raises InputError."""
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (ValueError, OSError, pa.ArrowException):
        raise invalid_plan(path) from None


def plan_again(
    recipe: Recipe, spec: SourceSpec, planned: PlannedSource, template: ChatTemplate | None, target: Target
) -> SourcePlan:
    """Return the plan of a source with the shards that were planned, its dialect detected again."""
    with Scratch() as scratch, open_source(recipe, spec, scratch, planned.source) as reader:
        sample = reader.sample
    job, detection = to_job(recipe, sample, template, target, nulls=has_nulls(planned.source))
    job = without_unreadable(job, planned.source, sample)
    return SourcePlan(planned.source, job, detection, planned.shards, planned.files)


def changed(path: Path | str, what: str) -> OutputError:
    return OutputError(f"{what} changed since `{path}` was written", hint=NEW_PLAN, code="output.fingerprint")


def other_versions(path: Path | str, found: Difference) -> OutputError:
    """Return the error for a plan that was written with another version of chatfmt, Python or a package."""
    name, theirs, mine = found
    text, here = (
        f"another version of a package: {name} {theirs}, and this is {mine}",
        f'pip install "{name}=={theirs}" here',
    )
    if found.of_files:
        text, here = f"other files of chatfmt: {theirs}, and this is {mine}", "install the same files of chatfmt here"
    elif name in ("chatfmt", "Python"):
        text = f"{name} {theirs}, and this is {name} {mine}"
    if name == "Python":
        here = f"use Python {theirs} here"
    text = f"`{path}` was written with {text}"
    return OutputError(text, hint=f"{here}, or {NEW_PLAN}", code="output.fingerprint")


def check_template(recipe: Recipe, content: PlanFile, path: Path | str) -> None:
    """Raise OutputError for a local template that is there and has changed; the one in the plan is used anyway."""
    if content.template is None or content.template.origin not in ("file", "folder"):
        return
    with suppress(InputError):  # it need not be on this machine
        if ChatTemplate.load(Path(content.folder, str(recipe.template))).sha256 != content.template.sha256:
            raise changed(path, f"the template `{recipe.template}`")


def with_tokenizer_of(recipe: Recipe, content: PlanFile) -> Recipe:
    """Return the recipe with the path of its tokenizer from the folder where the plan was made, if it is a file."""
    path = Path(content.folder, recipe.tokenizer or "")
    return dataclasses.replace(recipe, tokenizer=str(path)) if recipe.tokenizer and path.exists() else recipe


def check_no_more_files(recipe: Recipe, content: PlanFile, path: Path | str) -> None:
    """Raise OutputError for a file that was added to a folder, or fits a glob, since the plan was made."""
    for spec, planned in zip(recipe.read_apart, content.sources, strict=True):
        source, found = planned.source, dict[str, list[str]]()
        with suppress(ChatfmtError):  # what is gone is reported when it is read
            if source.kind == "files" and not recipe.from_rejects:
                found = sources.named_files(
                    spec.source, Path(content.folder),
                    name=spec.name or recipe.name, data_files=recipe.data_files, data_dir=recipe.data_dir,
                )  # fmt: skip
        known = {file.uri for file in source.files_as_found}
        used = {split.split for shard in planned.shards for split in shard}
        for uri in (uri for split in found.keys() & used for uri in found[split] if uri not in known):
            text = f"`{without_credentials(uri)}` was added to `{source.shown}` after `{path}` was written"
            raise OutputError(text, hint=NEW_PLAN, code="output.fingerprint")


def check_files(
    planned: Sequence[PlannedSource | SourcePlan], path: Path | str, tasks: Sequence[Task] | None = None
) -> None:
    """Raise OutputError for an input file that has changed, or InputError if it is gone; only files of the tasks."""
    used = None if tasks is None else {split.shown for task in tasks for split in task.inputs}
    for source in planned:
        contents = {file["file"]: file["xxh3_128"] for file in source.files}
        for file in () if source.source.originals else source.source.files:  # whose rows are kept with the plan
            is_used = used is None or file.shown in used
            if is_used and not sources.has_content(file.uri, contents.get(file.shown, ""), file.identity):
                raise changed(path, f"`{file.shown}`")
