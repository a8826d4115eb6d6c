"""The output folder: shards appear together at the commit, the manifest last; before it, nothing or the old result.

```
OUT/README.md                          card
OUT/data/train-00000-of-00007.parquet  from the commit on
OUT/.chatfmt/manifest.json             last: while it is absent the output is not complete
OUT/.chatfmt/rejects.jsonl             refused rows, in source order
OUT/.chatfmt/lock, run.json, receipts/, staged/   the run at work (see `staging`)
OUT/.chatfmt/commit.json               the decision: from here on the run is finished forward, never back
```

A commit is decided by writing `commit.json` (the new manifest and card). What follows can be done again after a crash:
the old manifest is removed, the folder `data` is replaced as a whole, card and rejects are put in place, the manifest
is written, the staging is removed. So `data` always is one complete result, the old one or the new one, and a manifest
always describes it.
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
from ..manifest import DATA, MANIFEST, REJECTS, STATE, Manifest, Shard, damage, read_manifest, totals
from . import durable, staging
from .encoders import Sink
from .shard import AtomicFile

CARD = "README.md"
COMMIT = "commit.json"
COPY = 1 << 20


class OutputFolder:
    """A folder that a run works in, locked; `complete` is its manifest where the same run had finished before.

    Workers write `staged_path(folder.state, name)` with a ShardWriter, `rejects_path` with a RejectWriter, then
    `write_receipt(folder.state, shard, fingerprint)`; the run ends with `commit`.
    """

    def __init__(self, path: Path, fingerprint: str, lock: staging.Lock, complete: Manifest | None) -> None:
        self.path, self.fingerprint, self.complete = path, fingerprint, complete
        self.state, self._lock = path / STATE, lock

    @classmethod
    def open(cls, path: Path, fingerprint: str, *, resume: bool = False, overwrite: bool = False) -> OutputFolder:
        """The folder, ready for the run `fingerprint`.

        New or empty (names that begin with a dot aside): made ready. With `resume` the same run goes on, also one that
        was finished; with `overwrite` an unfinished run is dropped, and a finished one is replaced at the commit.

        Raises OutputError where the folder holds something else: another run, files that chatfmt did not write, a run
        at work, or anything at all without `resume` and `overwrite`. The folder is untouched then.
        """
        _check_place(path)
        if not (path / STATE).exists():
            durable.make_folder(path / STATE)
        lock = staging.Lock(path / STATE)
        try:
            complete = _settle(path, fingerprint, resume=resume, overwrite=overwrite)
        except BaseException:
            lock.release()
            raise
        return cls(path, fingerprint, lock, complete)

    def finished(self) -> dict[str, Shard]:
        """The shards that an earlier try of this run left whole, by name, each read and compared with its receipt."""
        return staging.finished(self.state, self.fingerprint)

    def commit(self, manifest: Manifest, card: str, *, names: Mapping[str, str] | None = None) -> Manifest:
        """The manifest as it was published, with totals. `names` are final names for shards staged under others.

        Raises OutputError where a shard of the manifest is not staged, or files that are not ours are in the way.
        """
        for staged, final in (names or {}).items():
            durable.rename(staging.staged_path(self.state, staged), staging.staged_path(self.state, final))
        _check_staged(self.state, manifest.shards)
        _remove_strays(self.state, manifest.shards)
        self._check_ours()
        keys = {final: staged for staged, final in (names or {}).items()}
        rejects = join_rejects(
            self.state, [replace(shard, name=keys.get(shard.name, shard.name)) for shard in manifest.shards]
        )
        done = replace(
            manifest,
            totals=totals(manifest.shards),
            rejects=rejects,
            card_sha256=_digest(card),
            fingerprint=self.fingerprint,
        )
        text = json.dumps({"manifest": done.to_json(), "card": card}, ensure_ascii=False)
        durable.write_whole(self.state / COMMIT, text.encode())
        publish(self.path)
        return done

    def _check_ours(self) -> None:
        _check_foreign(self.path, _old_manifest(self.path))

    def close(self) -> None:
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is not None and self.complete is None and not staging.worth_resuming(self.state):
                self._leave()
        finally:
            self.close()

    def _leave(self) -> None:
        """Leave the place as it was found: nothing here is worth a resume."""
        staging.clear(self.state)
        if not (self.path / MANIFEST).exists():
            durable.unlink(self.state / "lock")
            durable.remove_if_empty(self.state)
            durable.remove_if_empty(self.path)


def _check_place(path: Path) -> None:
    """Refuse what can never become an output folder, before anything is touched."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"`{path}` is a file", hint="choose another place with `--out`", code="output.exists")
    if (path / STATE).is_dir() and any((path / STATE).iterdir()):
        return
    if path.is_dir() and any(not item.name.startswith(".") for item in path.iterdir()):
        raise OutputError(
            f"`{path}` is not empty, and its files are not from chatfmt",
            hint="choose another place with `--out`, or empty it yourself",
            code="output.exists",
        )


def _settle(path: Path, fingerprint: str, *, resume: bool, overwrite: bool) -> Manifest | None:
    """Bring a locked folder into the state for this run; its manifest where nothing is left to do."""
    state = path / STATE
    if resume or overwrite:
        publish(path)
    run, old = staging.run_fingerprint(state), _old_manifest(path)
    if (run is not None or old or (state / COMMIT).exists()) and not (resume or overwrite):
        raise _exists(path, finished=old is not None)
    if overwrite or (run is None and old is None):
        _check_foreign(path, old)
        staging.clear(state)
        staging.prepare(state, fingerprint)
        return None
    if (run if run is not None else old.fingerprint if old else None) != fingerprint:
        raise _other_run(path)
    return _whole(path, old) if run is None and old is not None else None


def _whole(path: Path, manifest: Manifest) -> Manifest:
    """The manifest of a finished folder, whose files are as it says; raises OutputError where one is not."""
    problem = next(damage(path, manifest), None)
    if problem is not None:
        raise OutputError(
            f"`{path}` was finished and is damaged: {problem}",
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
            hint="choose another place with `--out`, or empty it yourself",
            code="output.exists",
        ) from None


def _exists(path: Path, *, finished: bool) -> OutputError:
    if finished:
        return OutputError(
            f"`{path}` holds a finished conversion already",
            hint="replace it with `--overwrite`, or choose another place with `--out`",
            code="output.exists",
        )
    return OutputError(
        f"`{path}` holds a conversion that was interrupted",
        hint="continue it with `--resume`, or start again with `--overwrite`",
        code="output.exists",
    )


def _other_run(path: Path) -> OutputError:
    return OutputError(
        f"`{path}` is from a run with other input, options or versions, so it cannot be continued",
        hint="start again with `--overwrite`, or choose another place with `--out`",
        code="output.fingerprint",
    )


def _check_foreign(path: Path, old: Manifest | None) -> None:
    """Refuse to replace what the old manifest does not vouch for: other files in `data`, an edited card."""
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
        f"`{path / name}` is not as chatfmt wrote it, so it is not replaced",
        hint="move it away, or choose another place with `--out`",
        code="output.foreign",
    )


def _check_staged(state: Path, shards: Iterable[Shard]) -> None:
    for shard in shards:
        path = staging.staged_path(state, shard.name)
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise OutputError(
                f"the shard `{shard.name}` is missing or not whole",
                hint="run its part again, or the whole with `--resume`",
                code="output.missing",
            )


def _remove_strays(state: Path, shards: Iterable[Shard]) -> None:
    """Remove what a killed worker left beside the shards: it would be published with them."""
    known = {staging.staged_path(state, shard.name) for shard in shards}
    for path in sorted((state / "staged" / DATA).rglob("*")):
        if path not in known and (path.is_symlink() or not path.is_dir()):
            durable.unlink(path)


def join_rejects(state: Path, shards: Iterable[Shard]) -> dict[str, int | str]:
    """`{"rows", "bytes", "sha256"}` of all rejects, joined in order into `staged/rejects.jsonl`; {} without any."""
    parts = [shard for shard in shards if shard.reject_sha256]
    if not parts:
        return {}
    with AtomicFile(state / "staged" / "rejects.jsonl") as file:
        for shard in parts:
            copy(staging.rejects_path(state, shard.name), file)
    return {"rows": sum(shard.rejected for shard in parts), "bytes": file.bytes, "sha256": file.sha256}


def copy(path: Path, sink: Sink) -> None:
    """Append the bytes of a file to a sink, a piece at a time."""
    with path.open("rb") as part:
        while piece := part.read(COPY):
            sink.write(piece)


def publish(path: Path) -> None:
    """Finish a commit that was decided, from wherever it was left; nothing where none was."""
    state = path / STATE
    if not (state / COMMIT).exists():
        return
    try:
        decision = json.loads((state / COMMIT).read_bytes())
        text, card = decision["manifest"].encode(), decision["card"].encode()
        Manifest.from_json(decision["manifest"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError):
        raise InputError(
            f"`{state / COMMIT}` is damaged, so the commit it decided cannot be finished",
            hint="remove that file and convert again with `--overwrite`",
            code="output.commit",
        ) from None
    waiting = (state / "staged" / DATA).exists()  # also where the same was there before: it may be damaged
    if waiting or not (path / MANIFEST).exists() or (path / MANIFEST).read_bytes() != text:
        durable.unlink(path / MANIFEST)
        durable.sync_folder(state)
        _publish_data(path)
        durable.write_whole(path / CARD, card)
        _publish_rejects(path)
        durable.write_whole(path / MANIFEST, text)
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


def _publish_rejects(path: Path) -> None:
    staged = path / STATE / "staged" / "rejects.jsonl"
    manifest = Manifest.from_json(json.loads((path / STATE / COMMIT).read_bytes())["manifest"])
    if not manifest.rejects:
        durable.unlink(path / REJECTS)
    elif staged.exists():
        durable.rename(staged, path / REJECTS)


def _clean(state: Path) -> None:
    """Remove the staging, then the decision, so that a crash here comes back here."""
    staging.clear(state)
    durable.remove_folder(state / "old")
    durable.unlink(state / COMMIT)
    durable.sync_folder(state)


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
