"""The output folder: a commit publishes all shards together, then the manifest; before it, the old result or nothing.

```
OUT/README.md                          card
OUT/data/train-00000-of-00007.parquet  written by the commit
OUT/.chatfmt/manifest.json             written last: without it the output is incomplete
OUT/.chatfmt/rejects.jsonl             rejected rows, in source order
OUT/.chatfmt/lock, run.json, receipts/, staged/   the unfinished run (see `staging`)
OUT/.chatfmt/commit.json               the decision to commit: from here on it is completed, never rolled back
```

Writing `commit.json` (the new manifest and card) decides a commit. All that follows can be repeated after a crash:
remove the old manifest, replace the folder `data` in one step, move card and rejects into place, write the manifest,
remove the staging. So `data` is always one complete result, the old or the new one, and a manifest always describes
what it lies beside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from ..errors import InputError, OutputError
from ..manifest import CARD, DATA, MANIFEST, REJECTS, STATE, Manifest, Shard, damage, read_manifest, totals
from . import durable, staging
from .encoders import Sink
from .shard import AtomicFile, link

COMMIT = "commit.json"
COPY = 1 << 20


class OutputFolder:
    """The locked output folder of a run; `complete` is its manifest if the same run has finished before.

    Workers write `staged_path(folder.state, name)` with a ShardWriter, `rejects_path` with a RejectWriter, then
    `write_receipt(folder.state, shard, fingerprint)`; the run ends with `commit`.
    """

    def __init__(self, path: Path, fingerprint: str, lock: staging.Lock, complete: Manifest | None) -> None:
        self.path, self.fingerprint, self.complete = path, fingerprint, complete
        self.state, self._lock = path / STATE, lock

    @classmethod
    def open(cls, path: Path, fingerprint: str, *, resume: bool = False, overwrite: bool = False) -> OutputFolder:
        """Lock and prepare the folder for the run `fingerprint`.

        It may be new or empty, apart from names that begin with a dot. With `resume` the same run continues, even if it
        was finished; with `overwrite` an unfinished run is dropped, and a finished one is replaced at the commit.

        Raises OutputError and leaves the folder untouched if it holds anything else: a different run, files that
        chatfmt did not write, a run in progress, or anything at all without `resume` and `overwrite`.
        """
        _check_available(path)
        if not (path / STATE).exists():
            durable.make_folder(path / STATE)
        try:
            lock = staging.Lock(path / STATE)
        except BaseException:
            _remove_if_empty(path)
            raise
        with staging.released_on_error(lock, path / STATE, lambda: _restore(path)):
            complete = _prepare(path, fingerprint, resume=resume, overwrite=overwrite)
        return cls(path, fingerprint, lock, complete)

    def commit(self, manifest: Manifest, card: str) -> Manifest:
        """Publish the output and return its manifest with totals.

        Raises OutputError if a shard of the manifest is not staged, or files that chatfmt did not write are in the way.
        """
        self._lock.make_room()
        _check_staged(self.state, manifest.shards)
        _remove_strays(self.state, manifest.shards)
        _check_foreign(self.path, _old_manifest(self.path))
        done = with_totals(manifest, card, join_rejects(self.state, manifest.shards), self.fingerprint)
        text = json.dumps({"manifest": done.to_json(), "card": card}, ensure_ascii=False)
        durable.write_atomic(self.state / COMMIT, text.encode())
        publish(self.path)
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock.released():
            if kind is not None and self.complete is None and not staging.is_worth_resuming(self.state, error):
                _restore(self.path)


def _restore(path: Path) -> None:
    """Leave the folder as it was found: nothing that is staged in it is worth resuming."""
    staging.clear(path / STATE)
    if not (path / MANIFEST).exists():
        durable.unlink(path / STATE / "lock")
        _remove_if_empty(path)


def _remove_if_empty(path: Path) -> None:
    durable.remove_if_empty(path / STATE)
    durable.remove_if_empty(path)


def with_totals(manifest: Manifest, card: str, rejects: Mapping[str, int | str], fingerprint: str) -> Manifest:
    """Return the manifest of a folder with all that its commit fills in."""
    return replace(
        manifest, totals=totals(manifest.shards), rejects=rejects, card_sha256=_digest(card), fingerprint=fingerprint
    )


def _check_available(path: Path) -> None:
    """Raise OutputError for a path that cannot become an output folder, before anything is touched."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"`{path}` is a file", hint="choose another path with `--out`", code="output.exists")
    if (path / STATE).is_dir() and any((path / STATE).iterdir()):
        return
    if path.is_dir() and any(not item.name.startswith(".") for item in path.iterdir()):
        raise OutputError(
            f"`{path}` is not empty, and chatfmt did not write its files",
            hint="choose another path with `--out`, or empty it yourself",
            code="output.exists",
        )


def _prepare(path: Path, fingerprint: str, *, resume: bool, overwrite: bool) -> Manifest | None:
    """Prepare a locked folder for this run; return its manifest if nothing is left to do."""
    state = path / STATE
    if resume or overwrite:
        publish(path)
    run, old = staging.run_fingerprint(state), _old_manifest(path)
    if (run is not None or old or (state / COMMIT).exists()) and not (resume or overwrite):
        raise other_run_error(path) if old is None and run not in (None, fingerprint) else exists_error(path, old)
    if overwrite or (run is None and old is None):
        _check_foreign(path, old)
        staging.clear(state)
        staging.prepare_state(state, fingerprint)
        return None
    if (run if run is not None else old.fingerprint if old else None) != fingerprint:
        raise other_run_error(path)
    if run is not None:
        staging.prepare_state(state, fingerprint)  # its folders may be gone already, if it was stopped while it cleared
    return _checked(path, old) if run is None and old is not None else None


def _checked(path: Path, manifest: Manifest) -> Manifest:
    """Return the manifest of a finished folder; raises OutputError if a file differs from it."""
    problem = next(damage(path, manifest), None)
    if problem is not None:
        raise OutputError(
            f"`{path}` holds a finished conversion that is damaged: {problem}",
            hint="convert again with `--overwrite`",
            code="output.damaged",
        )
    return manifest


def _old_manifest(path: Path) -> Manifest | None:
    if not (path / MANIFEST).exists():
        return None
    try:
        return read_manifest(path)
    except InputError as error:
        raise OutputError(
            f"`{path}`: {error.message}, so chatfmt cannot tell which files are its own",
            hint="choose another path with `--out`, or empty it yourself",
            code="output.exists",
        ) from None


def exists_error(path: Path | str, old: Manifest | None) -> OutputError:
    """Return the error for a folder that holds an output, or the same run, interrupted."""
    if old is not None:
        return OutputError(
            f"`{path}` already holds a finished conversion",
            hint="replace it with `--overwrite`, or choose another path with `--out`",
            code="output.exists",
        )
    return OutputError(
        f"`{path}` holds an interrupted conversion",
        hint="continue it with `--resume`, or start again with `--overwrite`",
        code="output.exists",
    )


def other_run_error(path: Path | str) -> OutputError:
    """Return the error for a folder that another run has written to."""
    return OutputError(
        f"`{path}` is from a run with different input, options or versions, so it cannot be resumed",
        hint="start again with `--overwrite`, or choose another path with `--out`",
        code="output.fingerprint",
    )


def _check_foreign(path: Path, old: Manifest | None) -> None:
    """Raise OutputError for files that the old manifest does not list: others in `data`, an edited card."""
    sizes = {shard.name: shard.bytes for shard in old.shards} if old else {}
    if (path / DATA).is_symlink():
        raise _foreign(path, DATA)
    for item in sorted((path / DATA).rglob("*")):
        name = item.relative_to(path).as_posix()
        if item.is_symlink() or (not item.is_dir() and sizes.get(name) != item.stat().st_size):
            raise _foreign(path, name)
    card = path / CARD
    if card.is_symlink() or (card.exists() and _digest(card.read_bytes()) != (old.card_sha256 if old else "")):
        raise _foreign(path, CARD)


def _foreign(path: Path, name: str) -> OutputError:
    return OutputError(
        f"`{path / name}` was not written by chatfmt or has changed since, so it is not replaced",
        hint="move it away, or choose another path with `--out`",
        code="output.foreign",
    )


def _check_staged(state: Path, shards: Iterable[Shard]) -> None:
    for shard in shards:
        path = staging.staged_path(state, shard.name)
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise OutputError(
                f"the shard `{shard.name}` is missing or incomplete",
                hint="run its part again, or all of it with `--resume`",
                code="output.missing",
            )


def _remove_strays(state: Path, shards: Iterable[Shard]) -> None:
    """Remove files that a killed worker left beside the shards and that would be published with them."""
    known = {staging.staged_path(state, shard.name) for shard in shards}
    for path in sorted((state / "staged" / DATA).rglob("*")):
        if path not in known and (path.is_symlink() or not path.is_dir()):
            durable.unlink(path)


def join_rejects(state: Path, shards: Iterable[Shard]) -> dict[str, int | str]:
    """Join all rejects in order into `staged/rejects.jsonl`; return `{"rows", "bytes", "sha256"}`, {} without any."""
    parts = [shard for shard in shards if shard.reject_sha256]
    if not parts:
        return {}
    size, sha256 = write_rejects(state, parts, state / "staged" / "rejects.jsonl")
    return {"rows": sum(shard.rejected for shard in parts), "bytes": size, "sha256": sha256}


def write_rejects(state: Path, shards: Iterable[Shard], path: Path) -> tuple[int, str]:
    """Write the staged rejects of the shards to one file, in order; return its size and its hash."""
    parts = [shard for shard in shards if shard.reject_sha256]
    if len(parts) == 1 and link(staging.rejects_path(state, parts[0].name), path):
        return parts[0].reject_bytes, parts[0].reject_sha256
    with AtomicFile(path) as file:
        for shard in parts:
            copy(staging.rejects_path(state, shard.name), file)
    return file.bytes, file.sha256


def copy(path: Path, sink: Sink) -> None:
    """Write the bytes of a file to a sink, a chunk at a time."""
    with path.open("rb") as part:
        while chunk := part.read(COPY):
            sink.write(chunk)


def publish(path: Path) -> None:
    """Complete a decided commit from wherever it was left; does nothing if none was decided."""
    state = path / STATE
    if not (state / COMMIT).exists():
        return
    try:
        decision = json.loads((state / COMMIT).read_bytes())
        text, card = decision["manifest"].encode(), decision["card"].encode()
        manifest = Manifest.from_json(decision["manifest"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError):
        raise InputError(
            f"`{state / COMMIT}` is damaged, so its commit cannot be completed",
            hint="remove that file and convert again with `--overwrite`",
            code="output.commit",
        ) from None
    waiting = (state / "staged" / DATA).exists()  # even if the same shards were published before: those may be damaged
    if waiting or not (path / MANIFEST).exists() or (path / MANIFEST).read_bytes() != text:
        durable.unlink(path / MANIFEST)
        durable.sync_folder(state)
        _publish_data(path)
        durable.write_atomic(path / CARD, card)
        _publish_rejects(path, manifest)
        durable.write_atomic(path / MANIFEST, text)
    _clean(state)


def _publish_data(path: Path) -> None:
    staged, data, old = path / STATE / "staged" / DATA, path / DATA, path / STATE / "old"
    if not staged.exists():  # done before a crash
        return
    if data.exists():
        durable.remove_folder(old)
        durable.rename(data, old)
        durable.sync_folder(path)
    durable.rename(staged, data)
    durable.sync_folder(staged.parent)


def _publish_rejects(path: Path, manifest: Manifest) -> None:
    staged = path / STATE / "staged" / "rejects.jsonl"
    if not manifest.rejects:
        durable.unlink(path / REJECTS)
    elif staged.exists():
        durable.rename(staged, path / REJECTS)


def _clean(state: Path) -> None:
    """Remove the staging, then the decision, so that after a crash in here this is done again."""
    staging.clear(state)
    durable.remove_folder(state / "old")
    durable.unlink(state / COMMIT)
    durable.sync_folder(state)


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
