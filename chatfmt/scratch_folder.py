"""Folders for temporary files, each locked by the process that made it, so that the next run removes those of the dead.

```
TMPDIR/chatfmt-HOST-XXXXXXXX/     or .chatfmt-HOST-XXXXXXXX/ beside an output
    .lock                         held with flock(2) for as long as the process lives, however it ends
    stdin, …                      the temporary files
```

The lock is made first and removed last: a folder without one is empty, or not ours. Removed are folders whose name has
this host, that belong to this user, and whose lock nobody holds. Symbolic links are never followed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from .errors import FREE_SPACE, OutputError, exhausted, explain_disk_error

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing of other processes is removed
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
HOST = re.sub(r"[^A-Za-z0-9.]+", "-", socket.gethostname())[:64] or "localhost"
NAME = re.compile(rf"\.?chatfmt-{re.escape(HOST)}-[a-z0-9_]{{8}}")
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class SpareDescriptors:
    """Open files that are closed to remove folders: where no more files may be opened, nothing could be removed.

    Raises OSError if they cannot be opened.
    """

    def __init__(self, count: int = 6) -> None:
        self._open: list[int] = []
        try:
            while len(self._open) < count:
                self._open.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Close them; may be called twice."""
        while self._open:
            with suppress(OSError):
                os.close(self._open.pop())


class Scratch:
    """A folder for temporary files, made when it is first needed: in `beside`, or else in the system's (`TMPDIR`).

    Making it makes `beside` too, if need be, and removes what dead processes left in both.
    """

    def __init__(self, beside: Path | None = None) -> None:
        self._beside = beside
        self._made: Path | None = None
        self._lock: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None}  # only the process that made it removes it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    @property
    def folder(self) -> Path:
        """Its path; raises OutputError if it cannot be made."""
        return self._made or self._make()

    @property
    def files(self) -> list[Path]:
        """The temporary files and folders in it, sorted; none before it is made."""
        return sorted(path for path in self._made.iterdir() if path.name != LOCK) if self._made else []

    def _make(self) -> Path:
        self._spare = SpareDescriptors()
        beside, system = self._beside, temporary_folder()
        for parent in {system, beside or system}:
            remove_abandoned(parent)
        self._parents = [] if beside is None else [each for each in (beside, *beside.parents) if not each.exists()]
        try:
            while self._lock is None:  # a process that removes the folders of the dead may be faster than the lock
                made = self._make_folder(beside, system)
                self._lock = _make_lock(made)
        except BaseException:  # a signal too: `remove` removes what is locked
            self._spare.release()
            if self._made is not None:
                shutil.rmtree(self._made, ignore_errors=True)
            self._made = None
            self._remove_parents()
            raise
        return made

    def _make_folder(self, beside: Path | None, system: Path) -> Path:
        """Make a folder in `beside` if possible, else in `system`; where it is going to be is noted first."""
        prefix = f"chatfmt-{HOST}-"
        token = os.urandom(4).hex()
        if beside is not None:
            with suppress(OSError):
                beside.mkdir(parents=True, exist_ok=True)
                return self._make_at(beside / f".{prefix}{token}")
        with explained(system / prefix):
            return self._make_at(system / f"{prefix}{token}")

    def _make_at(self, path: Path) -> Path:
        self._made = path
        try:
            path.mkdir(0o700)
        except OSError:  # it may be there, of another process
            self._made = None
            raise
        return path

    def remove(self) -> None:
        """Remove it with all that it holds; never raises."""
        if self._lock is None or self._made is None:
            return
        self._spare.release()
        if fcntl is None:
            os.close(self._lock)
            shutil.rmtree(self._made, ignore_errors=True)
        else:
            with suppress(OSError):
                with _opened(self._made) as folder:
                    _empty(folder)
                self._made.rmdir()
            os.close(self._lock)
        self._lock = None
        self._remove_parents()

    def _remove_parents(self) -> None:
        with suppress(OSError):  # in use by now, or never made
            for parent in self._parents:
                parent.rmdir()


def temporary_folder() -> Path:
    """Return the system's folder for temporary files; raises OutputError if there is none that can be written to.

    Raises OSError if no more files may be opened.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        SpareDescriptors(1).release()  # or else this is why nothing can be written
        text = "no folder for temporary files can be written to"
        raise OutputError(text, hint="set TMPDIR to a folder with free space", code="scratch.enoent") from None


def _make_lock(folder: Path) -> int | None:
    """Return the lock of a new folder; None if the folder was removed meanwhile.

    Raises OutputError if it cannot be made, once the folder is removed.
    """
    with explained(folder):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
        except FileNotFoundError:
            return None
        except OSError:
            folder.rmdir()
            raise
    if take_lock(lock) is not False and (folder / LOCK).exists():
        return lock
    os.close(lock)
    return None


def take_lock(descriptor: int) -> bool | None:
    """Lock an open file for this process and its forks; False if another process holds it, None without locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (AttributeError, OSError):
        return None
    return True


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in `parent` that dead processes of this user on this host have left; never raises."""
    for name in _names(parent, NAME):
        with suppress(OSError):
            _remove_if_abandoned(parent / name)


def remove_abandoned_files(parent: Path, pattern: re.Pattern[str]) -> None:
    """Remove the files in `parent` with such names that dead processes of this user have locked; never raises."""
    for name in _names(parent, pattern):
        with suppress(OSError), _locked(parent / name) as is_abandoned:
            if is_abandoned:
                (parent / name).unlink()


def _names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if pattern.fullmatch(name)]  # noqa: PTH208
    except OSError:
        return []


def _remove_if_abandoned(path: Path) -> None:
    with _opened(path) as folder:
        if not _is_own(folder):
            return
        with suppress(FileNotFoundError), _locked(LOCK, folder) as is_abandoned:
            if not is_abandoned:
                return
            _empty(folder)
    path.rmdir()  # fails unless it is empty


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a folder; raises OSError for anything else, also for a link to one."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _locked(name: str | Path, folder: int | None = None) -> Iterator[bool]:
    """Lock a file for the block, and yield whether it is a regular one of this user that nobody else had locked."""
    descriptor = os.open(name, os.O_RDWR | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        yield is_regular and _is_own(descriptor) and take_lock(descriptor) is True
    finally:
        os.close(descriptor)


def _is_own(descriptor: int) -> bool:
    return fcntl is not None and os.fstat(descriptor).st_uid == os.geteuid()


def _empty(folder: int) -> None:
    """Remove all that an open folder holds, its lock last, so that a process killed meanwhile leaves it there."""
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        elif name != LOCK:
            os.unlink(name, dir_fd=folder)
    os.unlink(LOCK, dir_fd=folder)


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write chunks to a new file in a scratch folder; raises OutputError if it cannot be written.

    What the iterable raises is passed on: only errors of the scratch folder are explained.
    """
    with explained(path):
        file = path.open("wb")
    try:
        for chunk in chunks:
            with explained(path):
                file.write(chunk)
    finally:
        with explained(path):
            file.close()


def spool(chunks: Iterable[bytes], path: Path, limit: int | None) -> None:
    """Write what comes through a pipe to a new file in a scratch folder.

    Raises OutputError beyond `limit` bytes, by default half of the space that is free there at the beginning.
    """
    most = shutil.disk_usage(path.parent).free // 2 if limit is None else limit
    write(path, _bounded(chunks, most, path.parent))


def _bounded(chunks: Iterable[bytes], most: int, folder: Path) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise OutputError(
                f"stdin holds more than the {most:,} bytes that may be written to `{_root(folder).parent}`",
                hint="raise the limit, as in --spool-limit 500GB, or save stdin to a file and name that",
                code="scratch.limit",
            )
        yield chunk


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError about `path`, which is in a scratch folder, into an OutputError that names the place and why."""
    try:
        yield
    except OSError as error:
        if known := exhausted(error):
            raise known from error
        reason, hint, code = explain_disk_error(error)
        root = _root(path)
        other = "another place with `--out`" if root.name.startswith(".") else "another folder with TMPDIR=DIR"
        raise OutputError(
            f"cannot write temporary files to `{root.parent}`: {reason}",
            hint=f"{'free some space there, or ' * (hint == FREE_SPACE)}choose {other}",
            code=f"scratch.{code}",
        ) from error


def is_in_scratch(path: Path) -> bool:
    """Return whether a path is in a scratch folder, or is one."""
    return any(NAME.fullmatch(part) for part in path.parts)


def _root(path: Path) -> Path:
    """Return the scratch folder that holds the path, or the path itself."""
    return next((folder for folder in (path, *path.parents) if NAME.fullmatch(folder.name)), path)
