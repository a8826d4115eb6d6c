"""Every open, write, sync, rename and removal of output: the one place where a disk can fail.

Failures come out as OutputError in words. A failed sync is never tried again on the same file: the kernel may have
dropped the data and would report success (ATC'20, "Can applications recover from fsync failures?").
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ..errors import OutputError

WORDS = {
    errno.ENOSPC: ("the disk is full", "free some space, then run again with `--resume`"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run again with `--resume`"),
    errno.EFBIG: ("the file would be larger than is allowed here", "write a folder with `--shard-size 500MB`"),
    errno.EIO: ("the disk reports an error", "check the disk, then run again with `--resume`"),
    errno.EMFILE: ("too many files are open", "raise the limit with `ulimit -n`, or use fewer `--workers`"),
    errno.ENFILE: ("too many files are open on this machine", "try again later with `--resume`"),
    errno.EROFS: ("the file system is read-only", "choose another place with `--out`"),
    errno.EACCES: ("permission denied", "choose another place with `--out`"),
    errno.EPERM: ("permission denied", "choose another place with `--out`"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another place with `--out`"),
    errno.EISDIR: ("it is a folder, not a file", "choose another place with `--out`"),
    errno.ENAMETOOLONG: ("the name is too long", "choose another place with `--out`"),
    errno.ELOOP: ("its links run in a circle", "choose another place with `--out`"),
}


@contextmanager
def explained(path: Path | str) -> Iterator[None]:
    """Turn an OSError raised inside into an OutputError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        words, hint = WORDS.get(error.errno or 0, (error.strerror or str(error), "check the path given to `--out`"))
        code = errno.errorcode.get(error.errno or 0, "EIO").lower()
        raise OutputError(f"cannot write `{path}`: {words}", hint=hint, code=f"output.{code}") from error


AHEAD = 4 << 20
"""Bytes of a file after which they are sent to the disk while more are made: at its end there is little to wait for."""


class OutputFile:
    """A new file, open for writing; a sink for encoders. `close` without `sync` promises nothing about the disk."""

    def __init__(self, path: Path) -> None:
        self.path, self.closed = path, False
        self._waiting = 0
        self._ahead: threading.Thread | None = None
        self._failed: OSError | None = None
        with explained(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)

    def write(self, data: bytes | memoryview) -> int:
        """The number of bytes of `data`, all of them written."""
        view = memoryview(data).cast("B")
        size = len(view)
        with explained(self.path):
            while view:
                view = view[os.write(self._fd, view) :]
        self._waiting += size
        if self._waiting >= AHEAD and not (self._ahead and self._ahead.is_alive()):
            self._hurry()
        return size

    def _hurry(self) -> None:
        self._waiting, ahead = 0, threading.Thread(target=self._sync_ahead, daemon=True)
        with suppress(RuntimeError):  # no thread is to be had: `sync` does it all
            ahead.start()
            self._ahead = ahead

    def _sync_ahead(self) -> None:
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:  # said once by the system, so it is kept for `sync`
            self._failed = error

    def _join(self) -> None:
        if self._ahead:
            self._ahead.join()

    def sync(self) -> None:
        self._join()
        with explained(self.path):
            if self._failed:
                raise self._failed
            os.fsync(self._fd)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._join()
            with explained(self.path):
                os.close(self._fd)

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each synced into the folder above it; one that exists is left alone."""
    with explained(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder last; nothing on systems that cannot open one (Windows)."""
    if os.name == "nt":
        return
    with explained(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def rename(old: Path, new: Path) -> None:
    """Move within one file system, replacing `new`, and make the new name last."""
    with explained(new):
        old.replace(new)
    sync_folder(new.parent)


def unlink(path: Path) -> None:
    """Remove a file; one that is gone already is fine."""
    with explained(path):
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, never following links; one that is gone already is fine."""
    with explained(path):
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)


def remove_if_empty(path: Path) -> None:
    """Remove a folder that holds nothing; one that holds something, or is gone, is left alone."""
    with suppress(OSError):
        path.rmdir()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that under its name there is the old one or all of the new one, whatever happens."""
    part = path.with_name(f".{path.name}.part")
    try:
        with OutputFile(part) as file:
            file.write(data)
            file.sync()
        rename(part, path)
    except BaseException:
        discard(part)
        raise


def discard(path: Path) -> None:
    """Remove a file that failed; never raises, so that the first error is the one that is seen."""
    with suppress(OSError):
        path.unlink()
