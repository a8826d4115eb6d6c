"""A conversion whose tasks run one by one on machines that share a disk or a store (job arrays), as `convert` does it.

write_plan ──▶ STATE/plan.json ──▶ run_part 1/N … N/N, in parallel, repeated, in any order ──▶ commit

On a store, STATE is its folder `.chatfmt`, and nothing else is shared: parts upload what they write.

See `plan_file` for what a part makes of the plan.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from .. import sources, writers
from ..errors import OutputError, UsageError, abridged
from ..manifest import MANIFEST, STATE, Manifest, Shard, read_manifest
from ..recipe import Run
from ..stores import Store, has_credentials, is_remote, read_url, url_of, without_credentials
from .conversion.job import Task
from .plan_file import NEW_PLAN, check_files, read_plan, read_plan_file, to_text, with_new_uris
from .planning.plan import Plan
from .planning.scratch import Scratch
from .planning.target import Target
from .reorder.gather import first_tasks
from .running.destinations import open_store_folder
from .running.progress import OnProgress, ignore_progress
from .running.resuming import state_folder
from .running.run import check_output, run_plan, run_shard_tasks
from .running.summary import Summary, summarise, summarise_plan

NO_PLACE = {
    "stream": "-o out/",
    "hub": "name a folder with -o, and then `chatfmt push` it",
    "store-file": "-o {parent}/",
}
"""The kinds of target that parts on several machines cannot write, and what to name instead."""
SHOWN = 3
"""Maximum number of missing shards that an error names."""


def write_plan(plan: Plan, scratch: Scratch, run: Run, copy: Path | None = None) -> Path | str:
    """Write the plan file into the output, prepare the output for its parts, and return the path or URL of the file.

    The content of `scratch` is moved into the output. The file is also written to `copy`, if given. Raises UsageError
    for a stream, OutputError as `convert` does.
    """
    check_place(plan.target)
    check_sources(plan)
    check_output(plan, run)
    if plan.target.kind == "store":
        return write_plan_to_store(plan, scratch, run, copy)
    with open_output(plan, run) as output:
        if getattr(output, "complete", None):
            raise complete_error(plan)
        spool = output.state / writers.SPOOL
        move_files(scratch, spool)
        kept = with_files_at(plan, scratch, str(spool.absolute()))
        kept = replace(kept, target=replace(plan.target, path=plan.target.path.absolute()))
        first_tasks(kept, output.state)
        text = to_text(kept).encode()
        for path in (output.state / writers.PLAN, *([copy] if copy else [])):
            writers.write_atomic(path, text)
    return output.state / writers.PLAN


def write_plan_to_store(plan: Plan, scratch: Scratch, run: Run, copy: Path | None) -> str:
    """Write the plan file to the store of the output, and upload the content of `scratch`; return its URL."""
    output = open_store_folder(plan, run)
    if output.complete is not None:
        raise complete_error(plan)
    found = [inner for path in files_to_keep(scratch) for inner in (path, *path.rglob("*"))]
    for path in filter(Path.is_file, found):
        output.store.put(path, f"{writers.SPOOL_ON_STORE}/{path.relative_to(scratch.folder).as_posix()}")
    text = to_text(with_files_at(plan, scratch, f"{output.url}/{writers.SPOOL_ON_STORE}")).encode()
    output.store.write(writers.PLAN_ON_STORE, text)
    if copy is not None:
        writers.write_atomic(copy, text)
    return f"{output.url}/{writers.PLAN_ON_STORE}"


def complete_error(plan: Plan) -> OutputError:
    return OutputError(f"`{plan.target}` is already complete", hint="replace it with `--overwrite`")


def check_place(target: Target) -> None:
    """Raise UsageError for a target that parts on several machines cannot write."""
    if hint := NO_PLACE.get(target.kind):
        raise UsageError(f"a plan cannot write to `{target}`", hint=hint.format(parent=str(target).rpartition("/")[0]))


def check_sources(plan: Plan) -> None:
    """Raise UsageError for a source whose URL holds a password or a signature, which would be in the plan file."""
    for spec in plan.recipe.source:
        if has_credentials(spec.source):
            raise UsageError(
                f"a plan would show the credentials in `{without_credentials(spec.source)}`",
                hint="leave them to the configuration of its library, or download the file first",
            )


def open_output(plan: Plan, run: Run) -> writers.OutputFolder | writers.SingleFile:
    """Open and lock the output of a plan."""
    kind = writers.OutputFolder if plan.target.kind == "folder" else writers.SingleFile
    return kind.open(plan.target.path, plan.fingerprint, resume=run.resume, overwrite=run.overwrite)


def files_to_keep(scratch: Scratch) -> list[Path]:
    """Return the temporary files that parts need; what was read of remote files is read again."""
    return [path for path in scratch.files if not path.name.startswith(sources.KEPT)]


def move_files(scratch: Scratch, folder: Path) -> None:
    """Move the temporary files of a plan to `folder`."""
    if files := files_to_keep(scratch):
        writers.make_folder(folder)
        for path in files:
            shutil.move(path, folder / path.name)


def with_files_at(plan: Plan, scratch: Scratch, place: str) -> Plan:
    """Return the plan with the temporary files at `place`, a folder or a URL, and with absolute paths."""

    def new_uri(uri: str) -> str:
        if is_remote(uri):
            return sources.url_of_kept(uri)
        path = Path(uri)
        if path.is_relative_to(scratch.folder):
            return f"{place}/{path.relative_to(scratch.folder).as_posix()}"
        return str(path.absolute())

    return with_new_uris(plan, new_uri)


def find_plan(given: Path | str) -> Path | str:
    """Return the plan file at a path or URL, or of the output there; raises OutputError."""
    hint = f"chatfmt plan SOURCE … -o {given}"
    if url := url_of(given):
        store = Store(url)
        if store.has(writers.PLAN_ON_STORE):
            return f"{url}/{writers.PLAN_ON_STORE}"
        if Path(url).suffix == ".json" and read_url(url) is not None:
            return url
        raise OutputError(f"there is no plan in `{url}`", hint=hint, code="output.plan")
    path = Path(given)
    for plan in (path / STATE / writers.PLAN, writers.staging_folder(path.resolve()) / writers.PLAN):
        if plan.is_file():
            return plan
    if path.is_file():
        return path
    raise OutputError(f"there is no plan in `{path}`", hint=hint, code="output.plan")


def keep_unversioned(plan: Plan, scratch: Scratch) -> Plan:
    """Return the plan with remote files of which the store reports no version kept when they are first read.

    So the rows that a part converts are those that it compared with the plan.
    """
    files = [file for source in plan.sources for file in source.source.files_as_found if file.identity is None]
    uris = {file.uri for file in files if is_remote(file.uri)}
    return with_new_uris(plan, lambda uri: sources.kept(uri, scratch.folder) if uri in uris else uri) if uris else plan


def run_part(path: Path | str, index: int, count: int, run: Run, on_progress: OnProgress = ignore_progress) -> Summary:
    """Run the tasks `index`, `index + count`, … of a plan, counted from 1; tasks that are done are not run again.

    Parts may run at the same time. Raises UsageError if there is no such part, and what `convert` raises.
    """
    if not 1 <= index <= count:
        raise UsageError(f"there is no part {index} of {count}", hint=f"parts are 1/{count} to {count}/{count}")
    with Scratch() as scratch:
        plan = keep_unversioned(read_plan(path), scratch)
        with open_part(plan) as (tasks, finished, store):
            tasks = tasks[index - 1 :: count]
            check_files(plan.sources, path, tasks)
            done = {task.name: shard for task in tasks if (shard := finished(task.name))}
            parts = plan.recipe.reorders_rows
            shards = list(run_shard_tasks(tasks, done, run, on_progress, store, parts=parts))
    return summarise_plan(plan, shards)


Finished = Callable[[str], Shard | None]
"""Returns the shard with a name if it is finished."""


@contextmanager
def open_part(plan: Plan) -> Iterator[tuple[list[Task], Finished, writers.StoreFolder | None]]:
    """Yield the tasks of a plan, which of their shards are finished, and the store to which they go, if any."""
    if plan.target.kind == "store":
        store = writers.StoreFolder.waiting(str(plan.target), plan.fingerprint)
        if store is None:
            raise not_waiting(plan)
        with Scratch() as scratch:
            tasks, _ = first_tasks(plan, scratch.folder)
            yield tasks, store.finished(parts=plan.recipe.reorders_rows).get, store
        return
    state = state_folder(plan.target)
    if writers.run_fingerprint(state) != plan.fingerprint:
        raise not_waiting(plan)
    lock = writers.Lock(state, shared=True)
    try:
        tasks, folder = first_tasks(plan, state)
        yield tasks, lambda name: writers.read_receipt(folder, name, plan.fingerprint), None
    finally:
        lock.release()


def not_waiting(plan: Plan) -> OutputError:
    return OutputError(f"`{plan.target}` is not waiting for this plan", hint=NEW_PLAN, code="output.fingerprint")


def published(given: str) -> Summary | None:
    """Return the summary of a plan that has been committed already; None if it waits for parts, or there is none.

    `given` is the output or a plan file. A single file has no manifest, so its rows are not counted.
    """
    url = url_of(given)
    out = Target("store" if url else "folder", Path(given), "", None)
    if url is None and Path(given).is_file():
        is_plan = Path(given).suffix == ".json" or writers.format_from_name(given) is None
        out = read_plan_file(Path(given))[1].target if is_plan else replace(out, kind="file")
    if out.kind == "store":
        return published_on_store(str(out))
    if (state_folder(out) / writers.PLAN).is_file():
        return None
    if out.kind == "file":
        return Summary(out=str(out), already_complete=True) if out.path.is_file() else None
    return summarise_published(out.path) if (out.path / MANIFEST).is_file() else None


def published_on_store(url: str) -> Summary | None:
    """Return the summary of an output on a store that is complete; None if a plan waits there, or there is none."""
    store = Store(url)
    if store.has(writers.PLAN_ON_STORE) or not store.has(MANIFEST):
        return None
    manifest = Manifest.from_json((store.read(MANIFEST) or b"").decode())
    return replace(summarise(manifest.shards, url, ()), already_complete=True)


def commit(given: Path | str, run: Run, on_progress: OnProgress = ignore_progress) -> Summary:
    """Publish the output of a plan whose parts are all done; reorder its rows first if the recipe asks for it.

    Raises OutputError that names the missing shards, DataProblem if too many rows were rejected.
    """
    out = Path(given)
    if url := url_of(given):
        if (done := published_on_store(url)) is not None:
            return done
    elif (out / MANIFEST).is_file() and not (out / STATE / writers.PLAN).is_file():
        return summarise_published(out)
    path = find_plan(given)
    plan = read_plan(path)
    if missing := missing_parts(plan):
        raise shards_missing(path, [plan.names[number - 1] for number in missing], missing, len(plan.names))
    summary = run_plan(plan, dataclasses.replace(run, resume=True), on_progress)
    is_out = plan.target.kind != "store" and out.resolve() == plan.target.path.resolve()
    return replace(summary, out=str(given)) if is_out else summary


def missing_parts(plan: Plan) -> list[int]:
    """Return the numbers of the tasks, from 1, that no part has finished."""
    if plan.target.kind == "store":
        store = Store(str(plan.target))
        done = writers.finished_on_store(store, plan.fingerprint, parts=plan.recipe.reorders_rows)
        return [number for number, name in enumerate(plan.names, 1) if name not in done]
    tasks, folder = first_tasks(plan, state_folder(plan.target))
    return [number for number, task in enumerate(tasks, 1) if not writers.receipt_path(folder, task.name).is_file()]


def summarise_published(out: Path) -> Summary:
    """Return the summary of a folder that is complete, or whose commit was interrupted and is completed here."""
    manifest: Manifest = read_manifest(out)
    with writers.OutputFolder.open(out, manifest.fingerprint, resume=True):
        return replace(summarise(manifest.shards, str(out), ()), already_complete=True)


def shards_missing(path: Path | str, names: Sequence[str], numbers: Sequence[int], total: int) -> OutputError:
    """Return the error for shards that no part has written yet."""
    listed = abridged([f"`{name}`" for name in names], SHOWN)
    hint = f"chatfmt run {path} --task {numbers[0]}/{total}"
    if len(numbers) > 1:
        each = abridged([*map(str, numbers)], SHOWN)
        hint = f"chatfmt run {path} --task 1/1 runs them here; as parts: --task I/{total}, where I is {each}"
    verb = "is" if len(names) == 1 else "are"
    return OutputError(f"{len(names)} of {total} shards {verb} missing: {listed}", hint=hint, code="output.missing")
