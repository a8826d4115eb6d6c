"""Read remote files so that each block of them is fetched once for a run, although sample, hash and rows need it.

Blocks are kept in a temporary folder that all processes of the run on this machine share; `kept-in:FOLDER::URL` is the
URI of such a file. On another machine, where that folder is missing, and without one, blocks are fetched each time,
unless `kept_here` keeps those of a file of which its store reports no version: what was compared with the plan is read.
A file that its server does not send in ranges is downloaded whole.
"""

from __future__ import annotations

import atexit
import errno
import io
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import xxhash

from ...scratch_folder import Scratch, explained
from ...stores import open_store, reason_of

BLOCK = 8 << 20
"""Bytes fetched at a time."""
TRIES, MOST_SECONDS = 4, 60
"""How often a busy web server is asked for a block, and how long it is waited for at most each time."""
KEPT = "remote-"
"""The prefix of folders of blocks."""
SPARE = 0.1
"""The fraction of the disk that stays free: beyond it blocks are not kept."""
LEAST = 1 << 30
"""Bytes of a large disk that stay free: no file is downloaded whole beyond it."""
_PREFIX, _END = "kept-in:", "::"


def kept(url: str, folder: Path | None) -> str:
    """Return the URI of a remote file whose blocks are kept in `folder`; the URL itself without a folder."""
    return url if folder is None else f"{_PREFIX}{folder}{_END}{url}"


def kept_here(uri: str) -> str:
    """Return the URI of a remote file whose blocks are kept on this machine, if need be by this process alone."""
    folder, url = _folder_and_url(uri)
    return uri if folder is not None else kept(url, _own_folder())


@lru_cache(maxsize=1)
def _own_folder() -> Path:
    scratch = Scratch()
    atexit.register(scratch.remove)
    return scratch.folder


def url_of_kept(uri: str) -> str:
    """Return the URL of a remote file, without the folder in which its blocks are kept."""
    return _folder_and_url(uri)[1]


def _folder_and_url(uri: str) -> tuple[Path | None, str]:
    if not uri.startswith(_PREFIX):
        return None, uri
    folder, _, url = uri.removeprefix(_PREFIX).partition(_END)
    return (Path(folder) if Path(folder).is_dir() else None), url


def open_remote(uri: str) -> io.BufferedIOBase:
    """Open a remote file for reading; raises what its file system raises."""
    folder, url = _folder_and_url(uri)
    system, path = open_store(url)
    key = xxhash.xxh3_128_hexdigest(url.encode())
    whole = None if folder is None else folder / key
    if whole is not None and whole.exists():
        return whole.open("rb")
    size = system.info(path).get("size")
    if not size or not _has_ranges(url, size):  # 0 may be the size of an answer to HEAD
        return _download(system, path, whole)
    fetch = lru_cache(maxsize=2)(lambda number: _block(system, path, folder, key, number, size))
    return io.BufferedReader(_Blocks(fetch, size), 1)


@lru_cache(maxsize=1024)
def _has_ranges(url: str, size: int) -> bool:
    """Return whether the server of a file sends the bytes that it is asked for; a web server need not."""
    if not url.startswith(("http://", "https://")):
        return True
    system, path = open_store(url)
    try:
        with system.open(path, "rb", block_size=1) as file:
            file.seek(size - 1)
            return len(file.read(1)) == 1
    except ValueError:
        return False


def _download(system: Any, path: str, whole: Path | None) -> io.BufferedIOBase:
    """Return a file downloaded in one piece, which is kept if there is a folder for it."""
    if whole is None:
        file = tempfile.TemporaryFile(prefix="chatfmt-")  # noqa: SIM115  the caller closes it
        _copy(system, path, file, Path(tempfile.gettempdir()))
        file.seek(0)
        return file
    part = _part_file(whole.parent)
    with part.open("wb") as made:
        _copy(system, path, made, part)
    part.replace(whole)
    return whole.open("rb")


def _copy(system: Any, path: str, file: IO[bytes], place: Path) -> None:
    """Copy a file until the disk with `place` is almost full: what a server sends may never end."""
    with system.open(path, "rb", block_size=0) as source:
        while data := source.read(BLOCK):
            with explained(place):
                if not _has_room(place.parent, LEAST):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                file.write(data)


def _part_file(folder: Path) -> Path:
    """Return a new file, to be renamed when it is complete: other processes read the same folder."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        return Path(file.name)


def _block(system: Any, path: str, folder: Path | None, key: str, number: int, size: int) -> bytes:
    """Return a block of a file, from the folder if it is there, else from the store."""
    start, stop = number * BLOCK, min((number + 1) * BLOCK, size)
    file = None if folder is None else folder / f"{key}-{number}"
    if file is not None and file.exists():
        return file.read_bytes()
    try:
        data = _fetch(system, path, start, stop)
    except Exception as error:  # libraries of stores raise errors of their own
        raise error if isinstance(error, OSError) else OSError(reason_of(error)) from None
    if len(data) != stop - start:
        raise OSError(f"{len(data)} bytes came instead of {stop - start}")
    if file is not None and _has_room(file.parent):
        part = _part_file(file.parent)
        part.write_bytes(data)
        part.replace(file)
    return data


def _fetch(system: Any, path: str, start: int, stop: int) -> bytes:
    """Return bytes of a file; tries again if a web server asks for that. The libraries of stores try by themselves."""
    for tried in range(TRIES):
        try:
            return bytes(system.cat_file(path, start=start, end=stop))
        except Exception as error:
            if getattr(error, "status", None) not in (429, 500, 502, 503, 504) or tried == TRIES - 1:
                raise
            asked = str((getattr(error, "headers", None) or {}).get("Retry-After", ""))
            time.sleep(min(int(asked), MOST_SECONDS) if asked.isdigit() else 2**tried)
    raise AssertionError


def _has_room(folder: Path, most: float = math.inf) -> bool:
    """Return whether a block leaves so many bytes of the disk free, or a fraction of it if that is less."""
    disk = shutil.disk_usage(folder)
    return disk.free - BLOCK > min(SPARE * disk.total, most)


class _Blocks(io.RawIOBase):
    """A file of blocks, each of which `fetch` returns."""

    def __init__(self, fetch: Callable[[int], bytes], size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        if self._at >= self._size:
            return 0
        number, offset = divmod(self._at, BLOCK)
        data = memoryview(self._fetch(number))[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
