"""Publish the shards of a plan to a destination: an output folder, here or elsewhere, a single file, or a stream.

A destination is open, and locked against other runs, for the length of a `with` block. Tasks stage their shards in
`state`; `commit` publishes them. A block that is left without a commit publishes nothing.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import __version__, render, writers
from ...errors import AGAIN, OutputError, exhausted
from ...manifest import Manifest, Shard
from ...recipe import Run
from ...render.ending import Ending
from ...render.inspection.probe import text_ends
from ...render.safety.control_tokens import find_control_tokens
from ...render.template.chat_template import ChatTemplate
from ...sources.discovery.hub import cache_folder
from ...stores import Store, sources_without_credentials
from ...writers import OutputFolder, SingleFile, StoreFolder, Stream
from ..conversion.job import Job
from ..conversion.output.columns import renamed
from ..conversion.output.schema import json_lines_schema, merged_types
from ..conversion.row_counts import sum_counters
from ..hub_upload import Repository, open_repository, push
from ..planning.parquet_schema import with_source_features
from ..planning.plan import Plan
from ..planning.scratch import Scratch
from ..planning.target import STDOUT, Target
from ..planning.templates import token_sources
from ..plugins import used_packages
from .output import to_output, training_section
from .resuming import asked_for, differences, is_resumable, record_asked, work_folder

_log = logging.getLogger("chatfmt")


class Destination(Struct, frozen=True):
    """An open destination."""

    state: Path
    """The folder in which shards are staged."""
    commit: Callable[[Plan, Sequence[Shard]], int]
    """Publishes the shards of the plan, in order, and returns the size of the output in bytes."""
    published: Manifest | None = None
    """The manifest of the same run, if it was finished before."""
    store: StoreFolder | None = None
    """The folder on a store to which tasks upload their shards, if it is one."""


@contextmanager
def open_folder(plan: Plan, run: Run) -> Iterator[Destination]:
    """Open a folder of shards with its card and manifest."""
    path, fingerprint = plan.target.path, plan.fingerprint
    with OutputFolder.open(path, fingerprint, resume=run.resume, overwrite=run.overwrite) as folder:
        yield folder_destination(folder)


def folder_destination(folder: OutputFolder) -> Destination:
    """Return the destination that publishes shards in an open folder."""

    def commit(plan: Plan, shards: Sequence[Shard]) -> int:
        folder.commit(*manifest_and_card(plan, shards))
        return sum(shard.bytes for shard in shards)

    return Destination(folder.state, commit, folder.complete)


@contextmanager
def open_hub(plan: Plan, run: Run) -> Iterator[Destination]:
    """Open a dataset on the Hub: its folder is made in the cache, then pushed and removed; see `hub_upload`.

    It is kept if the push fails, so that the same command has only the push left to do.
    """
    repository = Repository.of(str(plan.target))
    open_repository(repository, public=run.public)
    with cached_folder(plan, cache_folder() / "push" / plan.fingerprint) as folder:
        yield folder_destination(folder)
        removed = push(folder.path, repository, public=run.public).removed
        if removed:
            _log.warning("%d older files of `%s` were removed: `%s` …", len(removed), repository, removed[0])


@contextmanager
def open_store(plan: Plan, run: Run) -> Iterator[Destination]:
    """Open a folder on a store, to which each task uploads its shard; a folder in the cache holds what has to be local.

    That is the parts of a run that reorders rows, and at the commit the rejects.
    """
    with cached_folder(plan, work_folder(plan)) as folder:
        store = open_store_folder(plan, run)
        if store.complete is not None:
            store.fetch_published(folder.path)
        elif plan.recipe.reorders_rows:
            store.fetch_parts(folder.state)

        def commit(plan: Plan, shards: Sequence[Shard]) -> int:
            store.commit(*manifest_and_card(plan, shards), folder.state)
            return sum(shard.bytes for shard in shards)

        yield Destination(folder.state, commit, store.complete, store)


@contextmanager
def cached_folder(plan: Plan, path: Path) -> Iterator[OutputFolder]:
    """Open an output folder in the cache, or continue it, and remove it at the end of a block that does not raise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with OutputFolder.open(path, plan.fingerprint, resume=True) as folder:
        yield folder
    shutil.rmtree(path)


@contextmanager
def open_file(plan: Plan, run: Run) -> Iterator[Destination]:
    """Open one file, its shards staged beside it and joined by the commit."""
    path, fingerprint = plan.target.path, plan.fingerprint
    with SingleFile.open(path, fingerprint, resume=run.resume, overwrite=run.overwrite) as file:
        yield file_destination(file)


def file_destination(file: SingleFile, publish: Callable[[], None] | None = None) -> Destination:
    """Return the destination that joins shards to an open file; `publish` is called when that is complete."""

    def commit(plan: Plan, shards: Sequence[Shard]) -> int:
        return file.commit(shards, plan.target.format, plan.target.compression, publish).bytes

    return Destination(file.state, commit)


@contextmanager
def open_store_file(plan: Plan, run: Run) -> Iterator[Destination]:
    """Open one file on a store: made in a folder in the cache, then uploaded whole.

    The folder is kept if that fails, so that the same command has only the rest left to do.
    """
    folder, name = work_folder(plan), plan.target.path.name
    store = Store(str(plan.target).removesuffix(f"/{name}"))
    if store.has(name) and not run.overwrite and not (folder / name).exists():
        raise OutputError(
            f"`{plan.target}` already exists",
            hint="replace it with `--overwrite`, or choose another name with `--out`", code="output.exists",
        )  # fmt: skip

    def publish() -> None:
        store.put(folder / name, name)
        store.abort_uploads(name)

    folder.mkdir(parents=True, exist_ok=True)
    with SingleFile.open(folder / name, plan.fingerprint, resume=True) as file:
        yield file_destination(file, publish)
    shutil.rmtree(folder)


@contextmanager
def open_reordered_stream(plan: Plan, run: Run) -> Iterator[Destination]:
    """Open a stream whose rows are reordered: shards wait in a temporary folder until all of them are there."""
    stream = open_stream(plan.target)
    with Scratch() as scratch:
        writers.prepare_state(scratch.folder, plan.fingerprint)

        def commit(plan: Plan, shards: Sequence[Shard]) -> int:
            for shard in shards:
                writers.copy(writers.staged_path(scratch.folder, shard.name), stream)
            stream.flush()
            return stream.bytes

        yield Destination(scratch.folder, commit)


DESTINATIONS: dict[str, Callable[[Plan, Run], AbstractContextManager[Destination]]] = {
    "folder": open_folder,
    "hub": open_hub,
    "store": open_store,
    "file": open_file,
    "store-file": open_store_file,
    "stream": open_reordered_stream,
}
"""What opens the destination of each kind of target; raises OutputError if another output or run is in the way."""


def open_store_folder(plan: Plan, run: Run) -> StoreFolder:
    """Open the folder on a store that a plan writes; raises OutputError if another output or run is in the way."""
    asked = asked_for(to_manifest(plan, ()))
    return StoreFolder.open(str(plan.target), plan.fingerprint, asked, resume=run.resume, overwrite=run.overwrite)


def open_stream(target: Target) -> Stream:
    """Open the stream of a target: stdout, or a device or named pipe."""
    if target.path == STDOUT:
        return Stream.stdout()
    return Stream(target.path.open("wb"), str(target.path))


@contextmanager
def open_destination(plan: Plan, run: Run) -> Iterator[Destination]:
    """Open the destination of a plan.

    An error about another run in its place names what differs. The hint of one after which the user should run again
    names `--resume` if the run leaves something to resume.
    """
    asked = to_manifest(plan, ())
    try:
        with DESTINATIONS[plan.target.kind](plan, run) as destination:
            if destination.published is None:
                record_asked(destination.state, asked)
            yield destination
    except Exception as failed:
        error = exhausted(failed) or failed
        if not isinstance(error, OutputError):
            raise
        if error.hint.endswith(AGAIN) and not run.resume and is_resumable(plan, error):
            error.hint += " with `--resume`"
        if error.code == "output.fingerprint" and (found := differences(plan.target, asked)):
            raise OutputError(f"{error.message}: {found}", hint=error.hint, code=error.code) from None
        raise error from error.__cause__


def manifest_and_card(plan: Plan, shards: Sequence[Shard]) -> tuple[Manifest, str]:
    """Return the manifest of a folder, which its commit completes, and the text of its card."""
    manifest = to_manifest(plan, shards)
    schema = plan.sources[0].job.schema
    if schema is None:
        schema = with_source_features(json_lines_schema(merged_types(shards)), plan.sources)
    schema = renamed(schema, plan.recipe.rename)
    output = to_output(manifest, ".", schema.names)
    return manifest, writers.card(manifest, schema, training=training_section(output))


def to_manifest(plan: Plan, shards: Sequence[Shard]) -> Manifest:
    """Return the manifest of a folder, which its commit completes.

    It names the engine, but does not count the rows that each way of rendering took: that depends on what a process
    had rendered before.
    """
    template = plan.template
    choice = render.choose_engine(plan.sources[0].job.options) if template else None
    packages = used_packages(
        plan.recipe, [name for source in plan.sources for name in (source.job.dialect, source.job.view)]
    )
    return Manifest(
        fingerprint=plan.fingerprint,
        shards=tuple(map(_without_engine, shards)),
        recipe={
            **plan.recipe.plain(),
            "source": sources_without_credentials(plan.recipe.plain()["source"]),
            "to": plan.sources[0].job.view,
        },
        sources=(
            *({"id": part.source.dataset_id or part.source.shown, "revision": part.source.revision,
               "subset": part.source.subset, "licence": part.source.licence,
               "languages": list(part.source.languages), "dialect": part.job.dialect}
              for part in plan.sources),
            *map(dict, plan.files),
        ),
        template={"name": template.name, "sha256": template.sha256, "origin": template.origin,
                  "revision": template.revision, **({"instead_of": template.instead_of} if template.instead_of else {}),
                  "special_tokens": token_sources(plan.recipe, template),
                  **_ends(plan.sources[0].job, template), **_escaped_tokens(plan)}
        if template else {},
        engine={
            **({"name": choice.engine, "reason": choice.reason, "isolation": _isolation(shards)} if choice else {}),
            **({"plugins": packages} if packages else {}),
        },
        chatfmt=__version__,
    )  # fmt: skip


@lru_cache(maxsize=8)  # asked for at the start and at the end of a run
def _ends(job: Job, template: ChatTemplate) -> dict[str, Any]:
    """Return how texts begin and end: a BOS token that tokenizers may add again, and what follows the last answer.

    `add_special_tokens` is true where the BOS token was left out, so that a tokenizer has to add it.
    """
    options = replace(job.options, bos="keep")
    single = render.template_renderer(template, options, job.isolation)
    bos, last = text_ends(single)
    if job.end is not None:
        last = Ending(single, job.end)(pa.array([last], pa.string()))[0].as_py()
    return {"add_special_tokens": bool(bos) and job.options.bos == "strip", "bos": bos, "ends_with": last}


def _escaped_tokens(plan: Plan) -> dict[str, Any]:
    """Return the tokens that were escaped in message content, so that it can be undone from the output alone."""
    if plan.template is None or plan.recipe.control_tokens != "escape":
        return {}
    return {"escaped_tokens": list(find_control_tokens(plan.template))}


def _isolation(shards: Sequence[Shard]) -> str:
    """Return the level of isolation that the template ran under, `none` in this process."""
    prefix = "isolation: "
    levels = [name.removeprefix(prefix) for name in sum_counters(shards, "engine") if name.startswith(prefix)]
    return ", ".join(levels) or "none"


def _without_engine(shard: Shard) -> Shard:
    """Return the shard without the counters that depend on the way its rows were rendered."""
    counts = {name: count for name, count in shard.counts.items() if not name.startswith(("engine.", "left_out."))}
    return replace(shard, counts=counts)
