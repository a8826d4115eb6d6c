"""Open, write, sync, rename and remove output files: the one place where a disk can fail.

Failures are raised as OutputError with an explanation. A failed sync is never retried on the same file: the kernel
may have dropped the data and would report success (ATC'20, "Can applications recover from fsync failures?").
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from ..errors import OutputError, explain_disk_error
from ..scratch_folder import explained, is_in_scratch, take_lock


@contextmanager
def explain_errors(path: Path | str) -> Iterator[None]:
    """Turn an OSError inside the block into an OutputError that names `path` and explains what to do."""
    try:
        yield
    except OSError as error:
        if is_in_scratch(Path(path)):
            with explained(Path(path)):
                raise
        message, hint, code = explain_disk_error(error)
        raise OutputError(f"cannot write `{path}`: {message}", hint=hint, code=f"output.{code}") from error


EARLY_SYNC = 16 << 20
"""Written bytes after which a sync starts in the background, so that little is left to sync at the end of a file.

With a quarter of it, syncs take a thirtieth of a conversion.
"""


class OutputFile:
    """A new file open for writing, a sink for encoders. Only `sync` guarantees that the data is on the disk.

    Errors name the file that it will become, if that is given. It is locked until `unlock`: it is not one that a dead
    process left (see `scratch_folder`).
    """

    def __init__(self, path: Path, becomes: Path | None = None) -> None:
        self.closed, self._explain = False, partial(explain_errors, becomes or path)
        self._unsynced = 0
        self._early_sync: threading.Thread | None = None
        self._sync_error: OSError | None = None
        with self._explain():
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
        take_lock(self._fd)
        self._lock: int | None = None
        with suppress(OSError):  # too many open files: it is locked until it is closed
            self._lock = os.dup(self._fd)

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data` and return its size in bytes."""
        view = memoryview(data).cast("B")
        size = len(view)
        with self._explain():
            while view:
                view = view[os.write(self._fd, view) :]
        self._unsynced += size
        if self._unsynced >= EARLY_SYNC and not (self._early_sync and self._early_sync.is_alive()):
            self._start_early_sync()
        return size

    def _start_early_sync(self) -> None:
        self._unsynced, thread = 0, threading.Thread(target=self._sync_early, daemon=True)
        with suppress(RuntimeError):  # no thread can start: `sync` does all of it
            thread.start()
            self._early_sync = thread

    def _sync_early(self) -> None:
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:  # the system reports it only once, so keep it for `sync`
            self._sync_error = error

    def _join(self) -> None:
        if self._early_sync:
            self._early_sync.join()

    def sync(self) -> None:
        """Wait until all data is on the disk."""
        self._join()
        with self._explain():
            if self._sync_error:
                raise self._sync_error
            os.fsync(self._fd)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._join()
            with self._explain():
                os.close(self._fd)

    def unlock(self) -> None:
        """Release the lock, which holds no data that could be lost."""
        if self._lock is not None:
            with suppress(OSError):
                os.close(self._lock)
            self._lock = None

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        finally:
            self.unlock()


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each synced into its parent, or none of them; does nothing if it exists."""
    with explain_errors(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        with explain_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        for folder in reversed(missing):
            sync_folder(folder.parent)
    except OutputError:
        for folder in missing:
            remove_if_empty(folder)
        raise


def sync_folder(path: Path) -> None:
    """Sync the names in a folder to the disk; does nothing on systems that cannot open folders (Windows)."""
    if os.name == "nt":
        return
    with explain_errors(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def rename(old: Path, new: Path) -> None:
    """Move within one file system, replacing `new`, and sync the new name."""
    with explain_errors(new):
        old.replace(new)
    sync_folder(new.parent)


def link(old: Path, new: Path) -> bool:
    """Give a file a second name; returns False where it cannot have one, as on another file system."""
    try:
        os.link(old, new)
    except OSError:
        return False
    return True


def unlink(path: Path) -> None:
    """Remove a file, if it exists."""
    with explain_errors(path):
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder and its contents, if it exists, without following links."""
    with explain_errors(path):
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)


def remove_if_empty(path: Path) -> None:
    """Remove a folder if it exists and is empty."""
    with suppress(OSError):
        path.rmdir()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that its name always refers to the old or all of the new content, whatever happens."""
    part = path.with_name(f".{path.name}.part")
    try:
        with OutputFile(part, path) as file:
            file.write(data)
            file.sync()
        rename(part, path)
    except BaseException:
        discard(part)
        raise


def discard(path: Path) -> None:
    """Remove a failed file; never raises, so that the first error is the one reported."""
    with suppress(OSError):
        path.unlink()
