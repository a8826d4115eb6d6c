"""The output folder on a store: shards go up under their final names, the manifest last; until then it is incomplete.

```
URL/README.md, URL/data/…             as in a local folder (see `folder`)
URL/.chatfmt/manifest.json             uploaded last; before it the old one was removed
URL/.chatfmt/run.json                  the unfinished run: its fingerprint, what it was asked for
URL/.chatfmt/receipts/….json           uploaded after its shard and its rejects
URL/.chatfmt/staged/rejects/….jsonl    the rejects of a shard
URL/.chatfmt/parts/…, spool/, plan.json   of job arrays, as in `staging`
```

A shard is finished if it has a receipt of this run and its size. A store has no locks: two runs of one fingerprint
write the same bytes, and another run is refused when it begins and before the manifest is uploaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from msgspec.structs import replace

from ..errors import InputError, OutputError
from ..manifest import (
    CARD,
    DATA,
    MANIFEST,
    REJECTS,
    STATE,
    UNFINISHED,
    VERSION,
    FolderProblem,
    Manifest,
    Shard,
    card_change,
    no_folder,
    problems_of,
    read_manifest,
    shard_from_json,
)
from ..scratch_folder import Scratch
from ..stores import Store
from . import staging
from .folder import exists_error, join_rejects, other_run_error, with_totals

T = TypeVar("T")
_STATE = PurePosixPath(STATE)
RUN, PLAN, SPOOL = UNFINISHED, f"{STATE}/{staging.PLAN}", f"{STATE}/{staging.SPOOL}"


class StoreFolder:
    """The output folder of a run on a store; `complete` is its manifest if the same run has finished before."""

    def __init__(self, store: Store, fingerprint: str, complete: Manifest | None = None) -> None:
        self.store, self.url, self.fingerprint, self.complete = store, store.url, fingerprint, complete

    @classmethod
    def open(
        cls, url: str, fingerprint: str, asked: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> StoreFolder:
        """Prepare the folder for the run `fingerprint`, which continues if it was begun before.

        Raises OutputError and leaves it untouched if it holds anything else, unless `overwrite` replaces an output.
        """
        store = Store(url)
        sizes, run = store.sizes(), _read_run(store)
        manifest = _read_manifest(store) if MANIFEST in sizes else None
        if manifest is not None and manifest.fingerprint == fingerprint and not overwrite:
            _check_sizes(url, manifest, sizes)
            _clear(store, sizes)
            return cls(store, fingerprint, manifest)
        if run is not None and run.get("fingerprint") == fingerprint and manifest is None:
            return cls(store, fingerprint)
        if (run is not None or manifest is not None) and not overwrite:
            raise other_run_error(url) if resume or manifest is None else exists_error(url, manifest)
        if run is None:
            _check_foreign(store, sizes, manifest)
        _clear(store, {name: size for name, size in sizes.items() if name != RUN})
        text = json.dumps({"version": VERSION, "fingerprint": fingerprint, "asked": asked}, sort_keys=True) + "\n"
        store.write(RUN, text.encode())
        store.remove([MANIFEST] if manifest is not None else [])
        return cls(store, fingerprint)

    @classmethod
    def waiting(cls, url: str, fingerprint: str) -> StoreFolder | None:
        """Return the folder that was prepared for the run and is not finished; None if there is none."""
        store = Store(url)
        return cls(store, fingerprint) if (_read_run(store) or {}).get("fingerprint") == fingerprint else None

    def finished(self, *, parts: bool = False) -> dict[str, Shard]:
        """Return the shards, or the parts of a run that reorders rows, that are uploaded, by name."""
        return finished_on_store(self.store, self.fingerprint, parts=parts)

    def fetch_published(self, folder: Path) -> None:
        """Download the card and the rejects of an output that is complete to a local folder."""
        sizes = self.store.sizes()
        for name in (CARD, REJECTS):
            if name in sizes:
                self.store.fetch(name, folder / name)

    def fetch_rejects(self, shards: Iterable[Shard], state: Path, *, parts: bool = False) -> None:
        """Download the rejects of shards, or of parts, to where a local run has them."""
        for shard in shards:
            path = staging.rejects_path(state, shard.name)
            if shard.reject_sha256 and not path.exists():
                self.store.fetch(_rejects_name(shard.name, parts), path)

    def fetch_parts(self, state: Path) -> None:
        """Download the parts of a run that reorders rows, and their receipts, to where a local run has them."""
        for name in self.store.sizes(str(_folder(True))):
            path = state / PurePosixPath(name).relative_to(_STATE)
            if not path.exists():
                self.store.fetch(name, path)

    def commit(self, manifest: Manifest, card: str, state: Path) -> Manifest:
        """Publish the output and return its manifest with totals; `state` is a local folder for its rejects.

        Raises OutputError if a shard is missing, or if another run has begun here.
        """
        sizes = self.store.sizes()
        _check_sizes(self.url, manifest, sizes)
        self.fetch_rejects(manifest.shards, state)
        done = with_totals(manifest, card, join_rejects(state, manifest.shards), self.fingerprint)
        stale = {name for name in sizes if name.startswith(f"{DATA}/")} - {shard.name for shard in done.shards}
        if (_read_run(self.store) or {}).get("fingerprint") != self.fingerprint:
            raise other_run_error(self.url)
        self.store.remove(sorted(stale | ({REJECTS} & sizes.keys() if not done.rejects else set())))
        if done.rejects:
            self.store.put(state / "staged" / "rejects.jsonl", REJECTS)
        self.store.write(CARD, card.encode())
        self.store.write(MANIFEST, done.to_json().encode())
        _clear(self.store, sizes)
        return done


def uploading(run: Callable[[T], Shard], url: str, *, parts: bool = False) -> Callable[[T], Shard]:
    """Return a function that runs a task in a temporary folder, wherever it is called, and uploads what it wrote."""
    return partial(_run_and_upload, run, url, parts)


def _run_and_upload(run: Callable[[Any], Shard], url: str, parts: bool, task: Any) -> Shard:
    with Scratch() as scratch:
        staging.prepare_state(scratch.folder, task.fingerprint)
        shard = run(replace(task, state=scratch.folder))
        _upload(Store(url), scratch.folder, shard, parts)
    return shard


def _upload(store: Store, state: Path, shard: Shard, parts: bool) -> None:
    """Upload a finished shard, its rejects, then its receipt; nothing if there is none, as while a crash is located."""
    receipt = staging.receipt_path(state, shard.name)
    if not receipt.exists():
        return
    store.put(staging.staged_path(state, shard.name), _shard_name(shard.name, parts))
    if shard.reject_sha256:
        store.put(staging.rejects_path(state, shard.name), _rejects_name(shard.name, parts))
    store.put(receipt, _receipt_name(shard.name, parts))


def finished_on_store(store: Store, fingerprint: str, *, parts: bool = False) -> dict[str, Shard]:
    """Return the shards of a run that have a receipt and their size, by name."""
    folder = _folder(parts) / "receipts"
    sizes, found = store.sizes(), dict[str, Shard]()
    names = [name for name in sizes if PurePosixPath(name).parent == folder]
    for name, data in store.read_all(names).items():
        try:
            shard = shard_from_json(data.decode(), fingerprint=fingerprint)
        except (InputError, UnicodeDecodeError):
            continue
        whole = sizes.get(_shard_name(shard.name, parts)) == shard.bytes
        if _receipt_name(shard.name, parts) == name and whole:
            found[shard.name] = shard
    return found


def verify_on_store(url: str) -> tuple[list[FolderProblem], Manifest | None, str]:
    """Return what `manifest.verify` does, then the manifest, and what has become of the card, of an output on a store.

    Its shards are downloaded one by one, each read once.
    """
    store = Store(url, InputError)
    with Scratch() as scratch:
        folder, sizes = scratch.folder, store.sizes()
        for name in {MANIFEST, CARD} & sizes.keys():
            store.fetch(name, folder / name)

        @contextmanager
        def present(name: str) -> Iterator[None]:
            if name in sizes:
                store.fetch(name, folder / name)
            yield
            (folder / name).unlink(missing_ok=True)

        if MANIFEST not in sizes:
            missing = FolderProblem("manifest", MANIFEST, "is missing")
            return [missing if sizes else no_folder(is_file=store.is_file())], None, ""
        try:
            manifest = read_manifest(folder)
        except InputError as error:
            return [FolderProblem("manifest", MANIFEST, error.message)], None, ""
        data = {name for name in sizes if name.startswith(f"{DATA}/")}
        return list(problems_of(folder, manifest, data, present)), manifest, card_change(folder, manifest)


def _folder(parts: bool) -> PurePosixPath:
    return _STATE / staging.PARTS if parts else _STATE


def _shard_name(name: str, parts: bool) -> str:
    return str(staging.staged_path(Path(_folder(True)), name)) if parts else name


def _rejects_name(name: str, parts: bool) -> str:
    return str(staging.rejects_path(Path(_folder(parts)), name))


def _receipt_name(name: str, parts: bool) -> str:
    return str(staging.receipt_path(Path(_folder(parts)), name))


def _read_run(store: Store) -> dict[str, Any] | None:
    data = store.read(RUN)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    return found if isinstance(found, dict) and found.get("version") == VERSION else {}


def _read_manifest(store: Store) -> Manifest:
    try:
        return Manifest.from_json((store.read(MANIFEST) or b"").decode())
    except (InputError, UnicodeDecodeError):
        raise OutputError(
            f"the manifest of `{store.url}` is damaged, so chatfmt cannot tell which files are its own",
            hint="choose another path with `--out`, or empty it yourself", code="output.exists",
        ) from None  # fmt: skip


def _check_sizes(url: str, manifest: Manifest, sizes: Mapping[str, int]) -> None:
    """Raise OutputError unless all shards are there in full."""
    for shard in manifest.shards:
        if sizes.get(shard.name) != shard.bytes:
            raise OutputError(
                f"the shard `{shard.name}` of `{url}` is missing or incomplete",
                hint="run the same command again, or with `--overwrite`", code="output.missing",
            )  # fmt: skip


def _check_foreign(store: Store, sizes: Mapping[str, int], old: Manifest | None) -> None:
    """Raise OutputError for files that the old manifest does not list: others in `data`, an edited card."""
    if old is None:
        foreign = next((name for name in sizes if not name.startswith(".")), None)
        if foreign is not None:
            raise OutputError(
                f"`{store.url}` is not empty, and chatfmt did not write its files",
                hint="choose another path with `--out`, or empty it yourself", code="output.exists",
            )  # fmt: skip
        return
    known = {shard.name: shard.bytes for shard in old.shards}
    changed = [name for name, size in sizes.items() if name.startswith(f"{DATA}/") and known.get(name) != size]
    if CARD in sizes and hashlib.sha256(store.read(CARD) or b"").hexdigest() != old.card_sha256:
        changed.append(CARD)
    if changed:
        raise OutputError(
            f"`{store.url}/{changed[0]}` was not written by chatfmt or has changed since, so it is not replaced",
            hint="move it away, or choose another path with `--out`", code="output.foreign",
        )  # fmt: skip


def _clear(store: Store, sizes: Mapping[str, int]) -> None:
    """Remove the work of a run from the state folder, its record last, and uploads that it has not completed."""
    store.abort_uploads()
    work = [name for name in sizes if name.startswith(f"{STATE}/") and name not in (MANIFEST, REJECTS, RUN)]
    store.remove(work)
    store.remove([RUN] if RUN in sizes else [])
