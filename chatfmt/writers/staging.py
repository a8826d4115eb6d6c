"""Where a run keeps its work until it is whole: a lock, who it is, finished shards and a receipt for each.

```
STATE/lock                    held while a run works here
STATE/run.json                the fingerprint of the run
STATE/staged/data/…           shards that are whole, under their final names
STATE/staged/rejects/…        their rejects
STATE/receipts/….json         written after its shard: name, rows, bytes, sha256, fingerprint
STATE/parts/                  the same again for rows that wait for another order (see `parts`)
STATE/spool/, plan.json       of a run whose tasks are done one by one: input that came through a pipe, and the plan
```

Shards and receipts may be written by other processes and machines: they need `staged_path` and `write_receipt` only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..manifest import VERSION, Shard, file_sha256, shard_from_json, shard_to_json
from . import durable

PARTS, SPOOL, PLAN = "parts", "spool", "plan.json"
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""What `flock` answers on file systems that have no locks; there the user has to see to it."""


def staged_path(state: Path, name: str) -> Path:
    """Where the shard with the final name `name` is kept until the commit."""
    return state / "staged" / name


def rejects_path(state: Path, name: str) -> Path:
    """Where the rejects of the shard `name` are kept until the commit."""
    return state / "staged" / "rejects" / f"{_flat(name)}.jsonl"


def receipt_path(state: Path, name: str) -> Path:
    return state / "receipts" / f"{_flat(name)}.json"


def _flat(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


def parts_folder(state: Path) -> Path:
    """The folder, made like this one, of rows that wait for another order."""
    return state / PARTS


def plan_path(state: Path) -> Path:
    """Where the plan of a run is whose tasks are done one by one."""
    return state / PLAN


def spool_folder(state: Path) -> Path:
    """Where such a run keeps input that lies nowhere else."""
    return state / SPOOL


def write_receipt(state: Path, shard: Shard, fingerprint: str) -> None:
    """Record that a shard is whole. Only after its file and its rejects are in place."""
    durable.write_whole(receipt_path(state, shard.name), shard_to_json(shard, fingerprint=fingerprint).encode())


def prepare(state: Path, fingerprint: str) -> None:
    """Make the folders of a new run and record who it is, last."""
    for name in ("receipts", "staged/data", "staged/rejects"):
        durable.make_folder(state / name)
    text = json.dumps({"version": VERSION, "fingerprint": fingerprint}, sort_keys=True) + "\n"
    durable.write_whole(state / "run.json", text.encode())


def run_fingerprint(state: Path) -> str | None:
    """The fingerprint of the unfinished run that is kept here; None where there is none, empty where it is damaged."""
    try:
        data: Any = json.loads((state / "run.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""
    return str(data.get("fingerprint", "")) if isinstance(data, dict) and data.get("version") == VERSION else ""


def finished(state: Path, fingerprint: str) -> dict[str, Shard]:
    """The shards that are whole, by name: each has a receipt of this run, and its bytes were read and agree.

    Everything else that is staged is removed: unfinished files, shards without a receipt, receipts without a shard.
    """
    shards = {shard.name: shard for shard in _receipts(state, fingerprint)}
    kept = {staged_path(state, name) for name in shards} | {rejects_path(state, name) for name in shards}
    kept |= {receipt_path(state, name) for name in shards}
    for folder in ("receipts", "staged"):
        for path in sorted((state / folder).rglob("*")):
            if path not in kept and (path.is_symlink() or not path.is_dir()):
                durable.unlink(path)
    return shards


def _receipts(state: Path, fingerprint: str) -> Iterator[Shard]:
    for path in sorted((state / "receipts").glob("*.json")):
        if shard := _read_receipt(state, path, fingerprint):
            yield shard


def _read_receipt(state: Path, path: Path, fingerprint: str) -> Shard | None:
    try:
        shard = shard_from_json(path.read_bytes().decode(), fingerprint=fingerprint)
    except (InputError, OSError, UnicodeDecodeError):
        return None
    return shard if receipt_path(state, shard.name) == path and _whole(state, shard) else None


def receipt(state: Path, name: str, fingerprint: str) -> Shard | None:
    """The shard of that name if it is whole; nothing is removed, so others may be at work here."""
    return _read_receipt(state, receipt_path(state, name), fingerprint)


def _whole(state: Path, shard: Shard) -> bool:
    files = [(staged_path(state, shard.name), shard.bytes, shard.sha256)]
    if shard.reject_sha256:
        files.append((rejects_path(state, shard.name), shard.reject_bytes, shard.reject_sha256))
    try:
        return all(path.stat().st_size == size and file_sha256(path) == digest for path, size, digest in files)
    except OSError:
        return False


def worth_resuming(state: Path) -> bool:
    """Whether a run that ends now leaves a whole shard, or a commit to finish."""
    receipts = (*(state / "receipts").glob("*.json"), *(state / PARTS / "receipts").glob("*.json"))
    return (state / "commit.json").exists() or any(receipts)


def clear(state: Path) -> None:
    """Remove the work of a run; who it is goes last, so that a crash here leaves a run that can be cleared again."""
    for name in ("receipts", "staged", PARTS, SPOOL):
        durable.remove_folder(state / name)
    durable.unlink(state / PLAN)
    durable.unlink(state / "run.json")
    durable.sync_folder(state)


class Lock:
    """The one run that may work in a folder; released by `release` or the end of the process.

    Those that do tasks of a plan for it are `shared`: many at once, while nobody begins, resumes or commits.
    """

    def __init__(self, state: Path, *, shared: bool = False) -> None:
        _check_links(state)
        self._path = state / "lock"
        self._fd = _locked(self._path, shared)

    def release(self) -> None:
        """Let others in; who held it is nothing that should stay in an output, which is the same from any machine."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # nothing was written through it that could be lost
                os.ftruncate(self._fd, 0)
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


def _check_links(state: Path) -> None:
    """Refuse a link where a run keeps its work: what is written and removed there would lie elsewhere."""
    for path in (state, *sorted(state.glob("*"))):
        if path.is_symlink():
            raise OutputError(
                f"`{path}` is a link, which chatfmt did not make",
                hint="remove it, or choose another place with `--out`",
                code="output.foreign",
            )


def _locked(path: Path, shared: bool = False) -> int:
    """An open descriptor that holds the lock; raises OutputError where another process holds it."""
    while True:
        with durable.explained(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            claimed = False
            try:
                claimed = _claimed(fd, path, shared)
            finally:
                if not claimed:
                    os.close(fd)
        if claimed:
            return fd


def _claimed(fd: int, path: Path, shared: bool) -> bool:
    """Whether the lock is ours; False where its last holder removed the file before we had it."""
    try:
        _flock(fd, shared)
    except BlockingIOError:
        raise _in_use(path, os.read(fd, 200).decode(errors="replace").strip()) from None
    if not _same_file(fd, path):
        return False
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()} {socket.gethostname()}\n".encode())
    return True


def _in_use(path: Path, owner: str) -> OutputError:
    return OutputError(
        f"another run is writing to `{path.parent.parent}` (process and host: {owner or 'unknown'})",
        hint="wait for it to end, or choose another place with `--out`",
        code="output.locked",
    )


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _flock(fd: int, shared: bool) -> None:
    with contextlib.suppress(ImportError):  # Windows: two runs at once are the user's to avoid
        import fcntl

        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
