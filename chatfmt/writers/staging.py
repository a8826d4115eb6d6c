"""The state folder of a run: a lock, the fingerprint of the run, finished shards and a receipt for each.

```
STATE/lock                    held while a run works here
STATE/run.json                the fingerprint of the run
STATE/asked.json              what the run was asked for, to name what differs in another
STATE/staged/data/…           finished shards, under their final names
STATE/staged/rejects/…        their rejects
STATE/receipts/….json         written after its shard: name, rows, bytes, sha256, fingerprint
STATE/parts/                  the same again for the part files of the reorder pass (see `parts`)
STATE/spool/, plan.json       of a job array: input that came through a pipe, and the plan
```

Other processes and machines may write shards and receipts; they need only `staged_path` and `write_receipt`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ALL_REJECTED, ChatfmtError, InputError, OutputError, RowError, TemplateError, UsageError, exhausted
from ..manifest import VERSION, Shard, file_sha256, shard_from_json, shard_to_json
from ..scratch_folder import SpareDescriptors
from . import durable
from .shard import AtomicFile

PARTS, SPOOL, PLAN, ASKED = "parts", "spool", "plan.json", "asked.json"
"""Names in a state folder, see above; PARTS is one itself."""
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""Errors of `flock` on file systems without locks, where the user has to avoid two runs at once."""


def staged_path(state: Path, name: str) -> Path:
    """Return the path of the shard `name` until the commit."""
    return state / "staged" / name


def rejects_path(state: Path, name: str) -> Path:
    """Return the path of the rejects of the shard `name` until the commit."""
    return state / "staged" / "rejects" / f"{_flat(name)}.jsonl"


def receipt_path(state: Path, name: str) -> Path:
    """Return the path of the receipt of the shard `name`."""
    return state / "receipts" / f"{_flat(name)}.json"


def _flat(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


def write_receipt(state: Path, shard: Shard, fingerprint: str) -> None:
    """Record that a shard is finished; call it only after its file and its rejects are in place.

    Two processes may do that at once: schedulers start a task of an array again.
    """
    with AtomicFile(receipt_path(state, shard.name)) as receipt:
        receipt.write(shard_to_json(shard, fingerprint=fingerprint).encode())


def prepare_state(state: Path, fingerprint: str) -> None:
    """Create the folders of a new run, then record its fingerprint."""
    for name in ("receipts", "staged/data", "staged/rejects"):
        durable.make_folder(state / name)
    text = json.dumps({"version": VERSION, "fingerprint": fingerprint}, sort_keys=True) + "\n"
    durable.write_atomic(state / "run.json", text.encode())


def run_fingerprint(state: Path) -> str | None:
    """Return the fingerprint of the unfinished run; None if there is no such run, empty if its record is damaged."""
    try:
        data: Any = json.loads((state / "run.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return ""
    except OSError as error:
        if known := exhausted(error):
            raise known from error
        return ""
    return str(data.get("fingerprint", "")) if isinstance(data, dict) and data.get("version") == VERSION else ""


def finished_shards(state: Path, fingerprint: str) -> dict[str, Shard]:
    """Return the finished shards by name: each has a receipt of this run, and its bytes were read and match.

    Removes everything else that is staged: unfinished files, shards without a receipt, receipts without a shard.
    """
    receipts = (_read_receipt(state, path, fingerprint) for path in sorted((state / "receipts").glob("*.json")))
    shards = {shard.name: shard for shard in receipts if shard is not None}
    kept = {staged_path(state, name) for name in shards} | {rejects_path(state, name) for name in shards}
    kept |= {receipt_path(state, name) for name in shards}
    for folder in ("receipts", "staged"):
        for path in sorted((state / folder).rglob("*")):
            if path not in kept and (path.is_symlink() or not path.is_dir()):
                durable.unlink(path)
    return shards


def _read_receipt(state: Path, path: Path, fingerprint: str) -> Shard | None:
    try:
        shard = shard_from_json(path.read_bytes().decode(), fingerprint=fingerprint)
    except (InputError, OSError, UnicodeDecodeError):
        return None
    return shard if receipt_path(state, shard.name) == path and _is_complete(state, shard) else None


def read_receipt(state: Path, name: str, fingerprint: str) -> Shard | None:
    """Return the shard `name` if it is finished; removes nothing, so other processes may be writing here."""
    return _read_receipt(state, receipt_path(state, name), fingerprint)


def _is_complete(state: Path, shard: Shard) -> bool:
    files = [(staged_path(state, shard.name), shard.bytes, shard.sha256)]
    if shard.reject_sha256:
        files.append((rejects_path(state, shard.name), shard.reject_bytes, shard.reject_sha256))
    try:
        return all(path.stat().st_size == size and file_sha256(path) == digest for path, size, digest in files)
    except OSError:
        return False


def is_worth_resuming(state: Path, error: BaseException | None) -> bool:
    """Return whether a run that ends with an error leaves what the same run, which alone may resume it, can use.

    That is a finished shard, unless the error is one of the data and the options, which it would end with again; and
    a commit to complete, or the parts of a job array.
    """
    code = error.code if isinstance(error, ChatfmtError) else ""
    same = isinstance(error, (RowError, TemplateError, UsageError))
    again = code == ALL_REJECTED or (same and code != "media.file")
    kept = (state / "commit.json").exists() or (state / PLAN).exists()
    return kept or (count_finished(state) > 0 and not again)


def count_finished(state: Path) -> int:
    """Return the number of finished shards, or of parts of a run that reorders rows."""
    return sum(1 for folder in (state, state / PARTS) for _ in (folder / "receipts").glob("*.json"))


def clear(state: Path) -> None:
    """Remove the work of a run, its fingerprint last, so that after a crash in here it can be cleared again."""
    for name in ("receipts", "staged", PARTS, SPOOL):
        durable.remove_folder(state / name)
    durable.unlink(state / PLAN)
    durable.unlink(state / ASKED)
    durable.unlink(state / "run.json")
    durable.sync_folder(state)


@contextlib.contextmanager
def released_on_error(lock: Lock, state: Path, clean_up: Callable[[], None]) -> Iterator[None]:
    """Release the lock if the block, which prepares a run, fails, and clean up unless a run had begun there before."""
    before: str | None = ""
    try:
        before = run_fingerprint(state)
        yield
    except BaseException:
        with lock.released(), contextlib.suppress(OutputError):
            if not ((before is not None and run_fingerprint(state) is not None) or (state / "commit.json").exists()):
                clean_up()
        raise


class Lock:
    """The lock of a state folder, held until `release` or the end of the process.

    Processes of a job array hold it `shared`: many at once, but none while another begins, resumes or commits the run.
    """

    def __init__(self, state: Path, *, shared: bool = False) -> None:
        _check_links(state)
        self._path = state / "lock"
        with durable.explain_errors(self._path):
            self._spare = SpareDescriptors()
        try:
            self._fd = _open_locked(self._path, shared)
        except BaseException:
            self.make_room()
            raise

    def make_room(self) -> None:
        """Let some more files be opened, to publish the output or to remove what is staged."""
        self._spare.release()

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Make room for the block, and release the lock after it."""
        try:
            self.make_room()
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Release the lock and empty its file: an output must not depend on the machine that wrote it."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # it holds no data that could be lost
                os.ftruncate(self._fd, 0)
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        self.make_room()


def _check_links(state: Path) -> None:
    """Raise OutputError for a symbolic link in the state folder: files elsewhere would be written and removed."""
    for path in (state, *sorted(state.glob("*"))):
        if path.is_symlink():
            raise OutputError(
                f"`{path}` is a symbolic link that chatfmt did not create",
                hint="remove it, or choose another path with `--out`",
                code="output.foreign",
            )


def _open_locked(path: Path, shared: bool = False) -> int:
    """Return an open descriptor that holds the lock; raises OutputError if another process holds it."""
    while True:
        with durable.explain_errors(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            claimed = False
            try:
                claimed = _claim(fd, path, shared)
            finally:
                if not claimed:
                    os.close(fd)
        if claimed:
            return fd


def _claim(fd: int, path: Path, shared: bool) -> bool:
    """Take the lock; False if its previous holder removed the file in the meantime."""
    try:
        _flock(fd, shared)
    except BlockingIOError:
        raise _in_use(path, os.read(fd, 200).decode(errors="replace").strip()) from None
    if not _same_file(fd, path):
        return False
    with contextlib.suppress(OSError):  # a full disk: it only names who holds the lock
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()} {socket.gethostname()}\n".encode())
    return True


def _in_use(path: Path, owner: str) -> OutputError:
    return OutputError(
        f"another run is writing to `{path.parent.parent}` (process and host: {owner or 'unknown'})",
        hint="wait for it to end, or choose another path with `--out`",
        code="output.locked",
    )


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _flock(fd: int, shared: bool) -> None:
    with contextlib.suppress(ImportError):  # Windows: the user has to avoid two runs at once
        import fcntl

        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
